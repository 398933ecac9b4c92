"""Sweep files: what they expand to, and one clear line for each thing that can be wrong with them."""

import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.spec import TrialSpec
from harness.workloads.blend import BlendSpec
from harness.workloads.gsm8k import Gsm8kSpec
from harness.workloads.recall import RecallSpec
from harness.workloads.ttft import TtftSpec
from kvcomm_core.config import KVCommConfig, MethodConfig
from sweeps.language.combinations import MAX_TRIALS
from sweeps.language.inheritance import Layers
from sweeps.language.strict_yaml import SweepError, read_sweep_file
from sweeps.language.sweep_spec import load_sweep

FULL = """
name: smoke
replicas: 2
max_new_tokens: 32
skip_if_missing: [gsm8k]
grid:
  workload:
    - {name: recall, limit: 12}
    - {name: gsm8k, limit: 3}
  agents: [2, 3]
  method: [dense, kvcomm]
  kvcomm.gamma: [0.1, 0.3]
"""


@pytest.fixture
def load(tmp_path):
    """``load(text, *overrides, limit=None)``: the sweep in a file with that text."""

    def load(text, *overrides, limit=None, profile=None):
        path = tmp_path / "sweep.yaml"
        path.write_text(text, encoding="utf-8")
        return load_sweep(path, overrides, limit, profile)

    return load


def test_the_grid_is_expanded(load):
    """Catches missing combinations, and dense trials repeated for each value of a kvcomm parameter."""
    expected = [
        TrialSpec(workload=workload, agents=agents, max_new_tokens=32, method=method, parameters=parameters)
        for workload in (RecallSpec(limit=12), Gsm8kSpec(limit=3))
        for agents in (2, 3)
        for method, parameters in (
            ("dense", MethodConfig()),
            ("kvcomm", KVCommConfig(gamma=0.1)),
            ("kvcomm", KVCommConfig(gamma=0.3)),
        )
    ]
    sweep = load(FULL)
    assert list(sweep.trials) == expected
    assert (sweep.name, sweep.replicas, sweep.skip_if_missing) == ("smoke", 2, ("gsm8k",))
    assert (sweep.gpus_per_replica, sweep.cpus_per_replica) == (None, None)


@settings(deadline=None)
@given(
    agents=st.lists(st.integers(2, 6), min_size=1, max_size=3),
    seeds=st.lists(st.integers(0, 9), min_size=1, max_size=3),
    gammas=st.lists(st.sampled_from([0.0, 0.1, 0.5, 1]), min_size=1, max_size=3),
    methods=st.lists(st.sampled_from(["dense", "kvcomm"]), min_size=1, max_size=3),
)
def test_every_combination_once(tmp_path_factory, agents, seeds, gammas, methods):
    """Catches an order-dependent or lossy expansion, against explicit loops; repeated values give one trial."""
    path = tmp_path_factory.mktemp("sweep") / "sweep.yaml"
    path.write_text(f"name: x\ngrid: {{agents: {agents}, seed: {seeds}, method: {methods}, kvcomm.gamma: {gammas}}}")
    expected = set()
    for agent_count, seed, method, gamma in itertools.product(agents, seeds, methods, gammas):
        parameters = KVCommConfig(gamma=float(gamma)) if method == "kvcomm" else MethodConfig()
        expected.add(TrialSpec(agents=agent_count, seed=seed, method=method, parameters=parameters).trial_id)
    found = [trial.trial_id for trial in load_sweep(path).trials]
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_every_reusing_trial_finds_its_dense_counterpart(load):
    """Catches a field (fidelity, say) that leaves the compared arms with different identities."""
    sweep = load(FULL + "fidelity: 0.5\n")
    ids = {trial.trial_id for trial in sweep.trials}
    assert {trial.dense_counterpart().trial_id for trial in sweep.trials} <= ids
    assert {trial.fidelity for trial in sweep.trials if trial.method == "kvcomm"} == {0.5}


def test_a_field_of_one_workload_is_left_out_of_the_other(load):
    """Catches `--set workload.path=FILE` being refused because recall has no path."""
    sweep = load(FULL, "workload.path=x.jsonl")
    assert {getattr(trial.workload, "path", None) for trial in sweep.trials} == {None, "x.jsonl"}


@pytest.mark.parametrize(
    ("overrides", "count"),
    [
        (["agents=2"], 6),
        (["agents=[2, 3, 4]"], 18),
        (["method=dense"], 4),
        (["kvcomm.gamma=0.2"], 8),
        (["kvcomm={gamma: 0.2}"], 8),
        (["workload=recall"], 6),
        (["seed=[0, 1]"], 24),
        (["replicas=1"], 12),
        (["skip_if_missing=[]"], 12),
        (["agents=2", "agents=[3, 4]", "workload=recall", "method=dense"], 2),
    ],
)
def test_overrides_replace_what_the_file_says(load, overrides, count):
    """Catches an override that is added to the axis it should replace, or refused as given twice."""
    assert len(load(FULL, *overrides).trials) == count


def test_numbers_as_people_write_them(load):
    """Catches 1e-3 being taken for text, as YAML 1.1 has it."""
    sweep = load("name: x\nmethod: kvcomm\nkvcomm: {gamma: 1e-3, match_temperature: 2E+1, blend_temperature: 1.5e-2}")
    parameters = sweep.trials[0].parameters
    assert (parameters.gamma, parameters.match_temperature, parameters.blend_temperature) == (0.001, 20.0, 0.015)


def test_limit_is_that_of_every_workload(load):
    """Catches a limit that reaches only one workload, or loses against the file's own."""
    assert {trial.workload.limit for trial in load(FULL, limit=5).trials} == {5}


def test_the_text_of_a_sweep_is_the_sweep(load):
    """Catches a sweep.yaml in the results that leaves out --set or --limit."""
    sweep = load(FULL, "kvcomm.gamma=[0.5, 0.7]", "agents=4", limit=2)
    assert load(sweep.text) == sweep


@settings(deadline=None)
@given(
    entries=st.dictionaries(st.sampled_from(["agents", "workload.limit", "seed"]), st.integers(2, 9)),
    key=st.sampled_from(["agents", "workload.limit", "workload", "seed"]),
    value=st.one_of(st.integers(2, 9), st.lists(st.integers(2, 9), min_size=1)),
)
def test_set_entry_leaves_the_key_in_one_place(entries, key, value):
    """Catches an override that leaves the old value standing at the top or under grid."""
    grid = {"method": ["dense"], "workload": [{"name": "recall", "limit": 3}]}
    document = {**entries, "grid": {name: axis for name, axis in grid.items() if name not in entries}}
    Layers(document).put(key, value)
    places = [place for place in (document, document.get("grid", {})) if key in place]
    assert [place[key] for place in places] == [value]
    assert (places[0] is not document) == isinstance(value, list)
    if key == "workload":
        assert "workload.limit" not in document
    if key == "workload.limit":
        assert "limit" not in document["grid"]["workload"][0]


BAD = {
    "misspelt key": ("agnets: 3", "'agnets' is not a key of a sweep file; did you mean agents?"),
    "misspelt key in grid": ("grid: {agent: [2]}", "'agent' is not a key of a sweep file; did you mean agents?"),
    "misspelt parameter": (
        "method: kvcomm\nkvcomm.gama: 0.1",
        "'kvcomm.gama' is not a key of a sweep file; did you mean kvcomm.gamma?",
    ),
    "misspelt nested parameter": (
        "method: kvcomm\nkvcomm: {gama: 0.1}",
        "'kvcomm.gama' is not a field of kvcomm; did you mean kvcomm.gamma?",
    ),
    "misspelt workload field": (
        "workload: {name: recall, limt: 3}",
        "'workload.limt' is not a field of workload; did you mean workload.limit?",
    ),
    "setting in grid": ("grid: {replicas: [1, 2]}", "'replicas' is not a key of a sweep file; allowed: model, "),
    "text for a number": ("agents: '2'", "agents is '2'; allowed: a whole number"),
    "boolean for a number": ("agents: true", "agents is True; allowed: a whole number"),
    "fraction for a whole number": ("agents: 2.5", "agents is 2.5; allowed: a whole number"),
    "boolean in a workload": (
        "workload: {name: recall, limit: yes}",
        "workload.limit is True; allowed: a whole number",
    ),
    "text that is nearly a number": ("method: kvcomm\nkvcomm.gamma: 1e", "kvcomm.gamma is '1e'; allowed: a number"),
    "text for a threshold": ("method: kvcomm\nkvcomm.gamma: low", "kvcomm.gamma is 'low'; allowed: a number"),
    "list for one value": ("agents: [2, 3]", "agents is [2, 3]; allowed: a whole number (several go under grid)"),
    "no name for a model": ("model: ", "model is None; allowed: text"),
    "unknown method": (
        "method: dens",
        "method is 'dens'; allowed: dense, prefix, naive, epic, infoflow, relay, cacheblend, kvcomm, or module:Class",
    ),
    "unknown workload": (
        "workload: {name: recal}",
        "workload.name is 'recal'; allowed: aime, gsm8k, humaneval, judge, math500, mmlu, questions, recall, blend",
    ),
    "workload without name": (
        "workload: {limit: 3}",
        "workload.name is None; allowed: aime, gsm8k, humaneval, judge, math500, mmlu, questions, recall, blend",
    ),
    "negative threshold": ("method: kvcomm\nkvcomm.gamma: -0.1", "kvcomm.gamma is -0.1; allowed: 0 to 1"),
    "negative threshold in grid": (
        "grid: {method: [dense, kvcomm], kvcomm.gamma: [0.1, -0.1]}",
        "kvcomm.gamma is -0.1; allowed: 0 to 1",
    ),
    "negative seed": ("seed: -1", "seed is -1; allowed: 0 or more"),
    "unknown order": (
        "workload: {name: mmlu, order: shuffled}",
        "workload.order is 'shuffled'; allowed: 'file', 'random', 'ascending' or 'descending'",
    ),
    "its own trials": ("take_from: [bad]", "take_from is 'bad'; allowed: names of other sweeps"),
    "a path to take from": ("take_from: [../x]", "take_from is '../x'; allowed: letters, digits, '.', '_' and '-'"),
    "text to take from": ("take_from: table_1", "take_from is 'table_1'; allowed: a list"),
    "no items": ("workload.limit: 0", "workload.limit is 0; allowed: 1 to 100000"),
    "not a number": ("fidelity: .nan", "fidelity is .nan; allowed: 64-bit and finite numbers"),
    "number too big for a column": ("seed: 9223372036854775808", "seed is 9223372036854775808; allowed: "),
    "date": ("seed: 2024-01-01", "seed is '2024-01-01'; allowed: a whole number"),
    "empty grid": ("grid: {}", "grid is {}; allowed: a mapping of trial fields to lists"),
    "null grid": ("grid:", "grid is None; allowed: a mapping of trial fields to lists"),
    "empty axis": ("grid: {agents: []}", "grid.agents is []; allowed: a list with at least one value"),
    "axis of one value": ("grid: {agents: 2}", "grid.agents is 2; allowed: a list with at least one value"),
    "top and grid": ("seed: 1\ngrid: {seed: [2]}", "seed stands both at the top and under grid"),
    "by itself and in its mapping": (
        "workload: {name: recall, limit: 3}\nworkload.limit: 4",
        "workload.limit is given twice, by itself and in workload",
    ),
    "parameter without its method": ("kvcomm.gamma: 0.1", "kvcomm.gamma is given without method; allowed: "),
    "field of another workload": (
        "workload: {name: recall}\nworkload.path: x",
        "'workload.path' is not a field of the workloads of this sweep",
    ),
    "key twice": ("seed: 1\nseed: 2", "line 3: key 'seed' is given twice"),
    "key twice, nested": ("workload: {name: recall, name: gsm8k}", "line 2: key 'name' is given twice"),
    "not YAML": ("grid: [", "line 3: "),
    "tag": (
        "model: !!python/object/apply:os.getcwd []",
        "line 2: tag '!!python/object/apply:os.getcwd'; allowed: values without tags",
    ),
    "number as a key": ("1: 2", "key 1 is not text"),
    "refers to itself": ("workload: &x {name: *x}", "workload.name.name.name.name.name.name.name.name is nested"),
    "too deep": (
        "workload: {a: {b: {c: {d: {e: {f: {g: {h: {i: 1}}}}}}}}}",
        "workload.a.b.c.d.e.f.g.h is nested more than 9 levels deep",
    ),
    "too many": (
        f"grid: {{seed: {list(range(1000))}, agents: {list(range(2, 103))}}}",
        f"the sweep has 101,000 combinations (1,000 of grid x 101 of grid); allowed: {MAX_TRIALS:,} at most",
    ),
    "no replicas": ("replicas: 0", "replicas is 0; allowed: 1 or more"),
    "boolean replicas": ("replicas: true", "replicas is True; allowed: a whole number"),
    "no CPUs": ("cpus_per_replica: 0", "cpus_per_replica is 0; allowed: 1 or more"),
    "one GPU and a half": ("gpus_per_replica: 1.5", "gpus_per_replica is 1.5; allowed: 0 to 1, or a whole number"),
    "checkpoints before time": ("checkpoint_minutes: -1", "checkpoint_minutes is -1.0; allowed: 0 or more"),
    "checkpoints at some time": ("checkpoint_minutes: often", "checkpoint_minutes is 'often'; allowed: a number"),
    "no shards": ("shards: 0", "shards is 0; allowed: 1 or more"),
    "a wave of less than a batch": (
        "batch_size: 4\nwave: 3",
        "wave is 3; allowed: 4 or more, as batch_size says, or null",
    ),
    "shards of a timing": (
        "workload: ttft\nshards: 2",
        "shards is given with workload ttft alone, which has no use for it",
    ),
    "unknown workload to skip": (
        "skip_if_missing: [gsm8]",
        "skip_if_missing is 'gsm8'; allowed: aime, gsm8k, humaneval, judge, math500, mmlu, questions, recall, blend",
    ),
    "text for exclusive": ("exclusive: 'yes'", "exclusive is 'yes'; allowed: true or false"),
    "answers of a timing": (
        "workload: ttft\nmax_new_tokens: 5",
        "max_new_tokens is given with workload ttft alone, which has no use for it",
    ),
    "items of a timing": (
        "workload: ttft\nworkload.limit: 5",
        "'workload.limit' is not a field of the workloads of this sweep",
    ),
    "more anchors than a pool may hold": (
        "workload: {name: ttft, anchors: 21}\nmethod: kvcomm",
        "workload.anchors is 21; allowed: from kvcomm.min_anchors (2) to kvcomm.max_anchors (20)",
    ),
    "too few anchors to judge by": (
        "workload: {name: ttft, anchors: 1}\nmethod: kvcomm",
        "workload.anchors is 1; allowed: from kvcomm.min_anchors (2) to kvcomm.max_anchors (20)",
    ),
    "blending without kvcomm": ("workload: blend", "method is 'dense'; allowed: kvcomm, with workload blend"),
    "blending by embeddings": (
        "workload: blend\nmethod: kvcomm\nkvcomm.criterion: entropy_literal",
        "kvcomm.criterion is 'entropy_literal'; allowed: any but entropy_literal with workload blend",
    ),
    "text to skip": ("skip_if_missing: gsm8k", "skip_if_missing is 'gsm8k'; allowed: a list"),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_bad_sweep_is_one_clear_line(load, tmp_path, text, message):
    """Catches bad input that is taken silently, or that ends in a traceback or a message nobody can act on."""
    with pytest.raises(SweepError) as caught:
        load(f"name: bad\n{text}\n")
    assert str(caught.value).startswith(f"{tmp_path / 'sweep.yaml'}: {message}")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", ["", "../up", ".hidden", "a b", "a/b", "x" * 101, "a\n"])
def test_names_that_are_no_folder_names(load, name):
    """Catches results written outside the results folder."""
    with pytest.raises(SweepError, match="name is "):
        load(f"name: {name!r}".replace("\\n", "\n"))


def test_files_that_are_no_sweeps(tmp_path):
    """Catches a traceback for a file that is missing, a folder, not text, empty or a list."""
    binary, empty, several = tmp_path / "binary", tmp_path / "empty", tmp_path / "list"
    binary.write_bytes(b"name: \xff")
    empty.write_text("")
    several.write_text("- name: x")
    for path, message in [
        (tmp_path / "missing.yaml", "cannot be read: No such file or directory"),
        (tmp_path, "cannot be read: Is a directory"),
        (binary, r"not UTF-8 text \(byte 6\)"),
        (empty, "is None; allowed: a mapping"),
        (several, r"is \[{'name': 'x'}\]; allowed: a mapping"),
    ]:
        with pytest.raises(SweepError, match=message):
            load_sweep(path)
    empty.write_text("agents: 2")
    with pytest.raises(SweepError, match="name is missing"):
        load_sweep(empty)


@pytest.mark.parametrize(
    ("override", "message"),
    [("agents", "--set is 'agents'; allowed: key=value"), ("=2", "--set is '=2'"), ("agents=[2", "--set agents: line")],
)
def test_bad_overrides(load, override, message):
    """Catches an override that is ignored."""
    with pytest.raises(SweepError) as caught:
        load(FULL, override)
    assert str(caught.value).startswith(message)


def test_the_files_of_the_project_load():
    """Catches a sweep shipped with a mistake in it."""
    folder = Path(load_sweep.__globals__["__file__"]).parents[1]
    files = sorted(set(folder.rglob("*.yaml")) - set(folder.glob("cluster/*")))
    assert folder / "smoke.yaml" in files
    for file in files:
        entries = read_sweep_file(file)
        for profile in entries.get("profiles", {None: None}):
            assert load_sweep(file, profile=profile).trials
        assert entries["name"] == file.stem


def test_the_sweeps_of_the_readme_load(tmp_path):
    """Catches an example that no longer means what it is said to mean."""
    root = Path(load_sweep.__globals__["__file__"]).parents[2]
    (tmp_path / "smoke.yaml").write_text((root / "sweeps" / "smoke.yaml").read_text(encoding="utf-8"))
    section = (root / "sweeps" / "README.md").read_text(encoding="utf-8")
    counts = {}
    for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text, encoding="utf-8")
        sweep = load_sweep(path)
        counts[sweep.name] = len(sweep.trials)
    # Of three seeds: dense with 2 agents and with 3, and kvcomm with 20 samples of each of 3.
    assert counts == {"smoke": 6, "search": 3 * (2 + 20 * 3)}


PROFILES = """
name: x
workload: {name: ttft, repeats: 3}
method: kvcomm
kvcomm: {max_anchors: 20}
grid: {agents: [2, 3]}
profiles:
  paper: {model: org/model, workload.output_tokens: [128, 256], workload.decode: true}
  embedded: {agents: 4, workload.repeats: 1, kvcomm.gamma: 0.5}
"""


def test_profiles_replace_what_the_file_says(load):
    """Catches a profile that is added to the axis it should replace, leaks into another or loses against the file."""
    paper, embedded = (load(PROFILES, profile=name) for name in ("paper", "embedded"))
    assert [(t.agents, t.workload.output_tokens) for t in paper.trials] == [(2, 128), (2, 256), (3, 128), (3, 256)]
    assert {(t.model, t.workload.decode, t.workload.repeats, t.parameters.gamma) for t in paper.trials} == {
        ("org/model", True, 3, 0.3)
    }
    (trial,) = embedded.trials
    assert trial == TrialSpec(
        agents=4, method="kvcomm", parameters=KVCommConfig(gamma=0.5), workload=TtftSpec(repeats=1)
    )


def test_overrides_beat_the_profile_and_the_text_is_the_sweep(load):
    """Catches --set being lost to the profile, and a sweep.yaml in the results that wants a profile again."""
    sweep = load(PROFILES, "workload.repeats=7", profile="embedded")
    assert [trial.workload.repeats for trial in sweep.trials] == [7]
    assert load(sweep.text) == sweep


@pytest.mark.parametrize(
    ("profiles", "chosen", "message"),
    [
        ("{a: {agents: 2}, b: {agents: 3}}", None, "no profile is chosen; allowed: --profile a or b"),
        ("{a: {agents: 2}, b: {agents: 3}}", "c", "--profile is 'c'; allowed: a, b"),
        (None, "a", "--profile is 'a'; this sweep has no profiles"),
        ("{}", "a", "profiles is {}; allowed: a mapping of names to entries"),
        ("{a: 3}", "a", "profiles.a is 3; allowed: a mapping of entries"),
        ("{a: {grid: {agents: [2]}}}", "a", "profiles.a.grid is given; in a profile, a list of values makes an axis"),
        ("{a: {agnets: 2}}", "a", "'agnets' is not a key of a sweep file; did you mean agents?"),
    ],
)
def test_bad_profiles(load, tmp_path, profiles, chosen, message):
    """Catches a profile that is ignored, and a sweep run without the one it needs."""
    with pytest.raises(SweepError) as caught:
        load("name: x\n" + (f"profiles: {profiles}\n" if profiles else ""), profile=chosen)
    assert str(caught.value).startswith(f"{tmp_path / 'sweep.yaml'}: {message}")


def test_what_timings_have_no_use_for_is_left_out_of_them(load):
    """Catches a timing whose identity changes with the answer length of the graded trials beside it."""
    sweep = load("name: x\nmax_new_tokens: 9\nfidelity: 0.5\nmethod: kvcomm\ngrid: {workload: [recall, ttft, blend]}")
    recall, ttft, blend = sweep.trials
    assert (recall.max_new_tokens, recall.fidelity) == (9, 0.5)
    assert ttft == TrialSpec(method="kvcomm", workload=TtftSpec())
    assert blend == TrialSpec(method="kvcomm", workload=BlendSpec())


def test_timings_on_a_cpu_are_exclusive_unless_told_otherwise(load):
    """Catches a timing that shares its cores, and graded trials that run one by one for nothing."""
    text = "name: x\nmethod: kvcomm\ngrid: {workload: [recall, ttft, blend]}\n"
    for extra, on_gpu, expected in [
        ("", False, [False, True, True]),
        ("", True, [False, False, False]),
        ("exclusive: true", True, [True, True, True]),
        ("exclusive: false", False, [False, False, False]),
    ]:
        sweep = load(text + extra)
        assert [sweep.is_exclusive(trial, on_gpu=on_gpu) for trial in sweep.trials] == expected
