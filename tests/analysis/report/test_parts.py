"""The parts of the report: damage, progress, conditions and words, each on cases made by hand."""

import dataclasses
import json

import pyarrow.parquet as pq
import pytest
from made_up import with_fidelity, with_reasons
from rich.console import Group

from analysis.report.blocks import Grid, Text, blocks_of
from analysis.report.compared_arms import compare_arms
from analysis.report.conditions import conditions
from analysis.report.damage import find_damage
from analysis.report.failures import Planned, progress_of
from analysis.report.page import render_report
from analysis.report.tails import render_tails
from analysis.report.verdict import state
from analysis.results import Results
from analysis.stats import Estimate
from analysis.tables.rendering import column_table
from harness.cells import flatten
from harness.results import results_writer
from harness.results.results_writer import ResultsWriter
from harness.spec import TrialSpec
from harness.workloads.probes import ContextsSpec
from harness.workloads.ttft import TtftSpec
from kvcomm_core.config import KVCommConfig

DENSE, KVCOMM = TrialSpec(agents=2), TrialSpec(agents=2, method="kvcomm", parameters=KVCommConfig())


def test_damage_within_a_file(write, make_result):
    """Catches a file whose footer is whole and whose pages are not."""
    result = make_result(DENSE, samples=40)
    folder = write(result) / "s"
    path = folder / "turns" / f"{result.trial.trial_id}-1.parquet"
    column = pq.ParquetFile(path).metadata.row_group(0).column(0)
    content = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    content[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(content)
    damage = find_damage(folder)
    assert [file.path for file in damage.damaged] == [path.relative_to(folder)]
    assert damage.incomplete == (f"{result.trial.trial_id}-1",)


@pytest.mark.parametrize("table", ["turns", "fidelity", "trials"])
def test_damage_to_a_file_of_many_attempts(tmp_path, make_result, monkeypatch, table):
    """Catches a report that fails on a damaged part, shows a mean over trials without turns, or leaves out the trials
    of the part that have no rows in the damaged table."""
    monkeypatch.setattr(results_writer, "_SHARE", 1)
    specs = [dataclasses.replace(spec, seed=seed) for seed in range(4) for spec in (DENSE, KVCOMM)]
    made = [make_result(spec, sweep="s") for spec in specs]
    checked = {1, 5}
    made = [with_fidelity(one, lambda _: 0.1) if i in checked else one for i, one in enumerate(made)]
    writer = ResultsWriter(tmp_path, "s")
    for one in made:
        writer.write(one)
    writer.close()
    (*_, path) = sorted((tmp_path / "s" / table).glob("part-*.parquet"))
    inside = set(pq.read_table(tmp_path / "s" / "trials" / path.name, partitioning=None)["trial_id"].to_pylist())
    whole = [one for one in made if one.trial.trial_id not in inside]
    assert 0 < len(whole) < len(made)
    if table == "fidelity":
        whole = [one for one in made if one.trial.trial_id not in inside or one.trial.kl_mean is None]
    path.write_bytes(path.read_bytes()[:-50])
    damage = find_damage(tmp_path / "s")
    assert [file.path for file in damage.damaged] == [path.relative_to(tmp_path / "s")]
    kept = {one.trial.trial_id for one in whole}
    lost = {f"{one.trial.trial_id}-1" for one in made if one.trial.trial_id not in kept}
    assert set(damage.incomplete) == (set() if table == "trials" else lost)
    results = Results(tmp_path, without={path}, without_attempts={tmp_path / "s": damage.incomplete})
    assert set(results.trials["trial_id"]) == set(results.turns["trial_id"]) == kept
    assert len(results.fidelity) == sum(len(one.fidelity) for one in whole)
    plan = Planned({spec.trial_id: flatten(spec.to_dict()) for spec in specs})
    page = render_report(tmp_path, {"s": plan})
    assert all((name in page) == (table != "trials") for name in lost)


def test_progress_of_another_version(write, make_result):
    """Catches a sweep that is complete and called empty because a field was added since, and a change passed over."""
    result = make_result(DENSE)
    spec = json.loads(result.trial.spec_json)
    del spec["shards"]
    old = dataclasses.replace(result.trial, trial_id="0123456789ab", spec_json=json.dumps(spec))
    turns, samples = (
        [dataclasses.replace(row, trial_id=old.trial_id) for row in rows] for rows in (result.turns, result.samples)
    )
    trials = Results(write(dataclasses.replace(result, trial=old, turns=turns, samples=samples))).trials
    plan = Planned({DENSE.trial_id: flatten(DENSE.to_dict())})
    progress = progress_of(trials, plan)
    assert (progress.n_ok, progress.not_run, progress.n_unplanned, progress.unknown_fields) == (1, [], 0, ["shards"])
    more = dataclasses.replace(DENSE, shards=2)
    progress = progress_of(trials, Planned({**plan.specs, more.trial_id: flatten(more.to_dict())}))
    assert (sum(n for _, n in progress.not_run), progress.n_unplanned) == (2, 1)
    unknown = progress_of(trials, Planned({}, "no sweep file"))
    assert (unknown.n_planned, unknown.n_unplanned, unknown.not_run) == (None, None, [])


def test_conditions(write, make_result):
    """Catches mixed machines under one name, no GPU called unknown, and unknown called none."""
    first, second, third = (make_result(dataclasses.replace(DENSE, seed=seed)) for seed in range(3))
    environment = {"cpu": "X", "cores": 2, "memory_bytes": 2**31, "gpus": [], "packages": {"torch": "2.11"}}
    rows = [
        dataclasses.replace(first.trial, env_json=json.dumps(environment), git_commit="a" * 40, git_dirty=True),
        dataclasses.replace(second.trial, env_json=json.dumps({**environment, "gpus": ["H100", "H100"]})),
        third.trial,
    ]
    results = [dataclasses.replace(r, trial=row) for r, row in zip((first, second, third), rows, strict=True)]
    found = dict(conditions(Results(write(*results)).trials))
    assert sorted(found["GPUs"].split("; ")) == ["H100, H100", "none", "unknown"]
    assert sorted(found["commit"].split("; ")) == ["aaaaaaaaaaaa with local changes", "unknown"]
    assert sorted(found["memory"].split("; ")) == ["2.0 GiB", "unknown"]
    assert sorted(found["torch"].split("; ")) == ["2.11", "not installed"]
    assert found["ran"] == "2026-01-02 03:04 to 2026-01-02 03:05 UTC"


def estimate(value, low=None, high=None):
    return Estimate(value, low, high, 30, 12)


@pytest.mark.parametrize(
    ("speedup", "change", "time", "accuracy"),
    [
        (estimate(2, 1.5, 2.5), estimate(-5, -9, -1), "faster than dense.", "less accurate than dense."),
        (estimate(0.8, 0.7, 0.9), estimate(5, 1, 9), "slower than dense.", "more accurate than dense."),
        (estimate(2, 0.9, 3), estimate(5, -1, 9), "no difference is shown.", "not to show that there is none."),
        (estimate(2), estimate(5), "too few for an interval, or for a verdict", "too few for an interval"),
        (None, None, "Not measured: no turn reused", "Not measured: no graded answer"),
    ],
)
def test_words_follow_the_interval(speedup, change, time, accuracy, write, make_result):
    """Catches a claim that the interval does not carry, or one with the wrong sign."""
    records = Results(write(make_result(DENSE), make_result(KVCOMM)))
    (row,) = compare_arms(records)
    made = dataclasses.replace(row, speedup=speedup, change=change, n_changed=3)
    said = {one.about.split()[0]: one.text for one in state(records, [made])}
    assert time in said["Time"]
    assert accuracy in said["Accuracy"]


def test_words_on_several_cells(write, make_result):
    """Catches a range that hides the cell that is slower, and cells without a number counted as equal."""
    records = Results(write(make_result(DENSE), make_result(KVCOMM)))
    (row,) = compare_arms(records)
    speedups = (estimate(2, 1.5, 2.5), estimate(0.5, 0.4, 0.6), estimate(3), None)
    rows = [
        dataclasses.replace(row, cell=f"cell {n}", speedup=one, change=estimate(0, 0, 0), n_changed=0)
        for n, one in enumerate(speedups)
    ]
    conversation, time, accuracy, *_ = (one.text for one in state(records, rows))
    assert conversation.startswith("Speedup of whole items over dense, decoding included, is 1.04x wherever")
    assert "goes from 0.50x (cell 1) to 3.00x (cell 2)." in time
    assert "1 cell: faster than dense; 1 cell: slower than dense; 1 cell: too few items for a verdict" in time
    assert time.endswith("; 1 cell: not measured.")
    assert "is +0.0 points wherever it was measured." in accuracy
    # 1 - 30 / (30 + 1.96^2): Wilson's upper end of 0 in 30.
    assert "Not one item was graded differently in 4 cells; with 30 items, up to 11 %" in accuracy


def test_words_on_a_conversation(write, make_result):
    """Catches a headline of single turns, decoding left unsaid, and gains over prefix or energy where none ran."""
    dense, ours = make_result(DENSE, samples=6), make_result(KVCOMM, samples=6)
    records = Results(write(dense, ours))
    first = state(records, compare_arms(records))[0]
    assert first.about == "Conversation (kvcomm, recall, 2 agents, kvcomm)"
    latency, ttft = (2.4 + 5 * 2.2) / 6, (0.4 + 5 * 0.2) / 6
    assert f"is {2.4 / latency:.2f}x (95 % interval " in first.text
    assert first.text.split("faster than dense.")[1].startswith(
        f" An item takes {latency:.2f} s, of which decoding is {100 * 2 / latency:.0f} %."
        f" The TTFT summed over an item's turns has a speedup of {0.4 / ttft:.2f}x ("
    )
    assert "prefix" not in first.text
    assert " J" not in first.text
    prefix = make_result(dataclasses.replace(DENSE, method="prefix"), samples=6, sweep="t")
    prefix = dataclasses.replace(
        prefix, turns=[dataclasses.replace(turn, mode="partial", ttft_s=0.15) for turn in prefix.turns]
    )
    warm = make_result(KVCOMM, samples=6, sweep="t")
    warm = dataclasses.replace(warm, samples=[dataclasses.replace(one, energy_j=7.0) for one in warm.samples])
    records = Results(write(make_result(DENSE, samples=6, sweep="t"), prefix, warm) / "t")
    said = {one.about.split(",")[0]: one.text for one in state(records, compare_arms(records))}
    assert f"faster than dense. Over prefix it is {2.3 / latency:.2f}x (" in said["Conversation (kvcomm"]
    assert f"Over prefix that is {0.3 / ttft:.2f}x (" in said["Conversation (kvcomm"]
    assert said["Conversation (kvcomm"].endswith("An item takes 7.0 J.")
    assert said["Time (kvcomm"].endswith("Over prefix it is 1.50x (1.50x to 1.50x).")
    assert "Over prefix" not in said["Conversation (prefix"]


def test_words_on_timings_without_decoding(write, make_result):
    """Catches a latency made of given answers."""
    result = make_result(dataclasses.replace(KVCOMM, workload=TtftSpec()), samples=6)
    turns = [
        dataclasses.replace(turn, arm=arm, ttft_s=took, mode=mode, stop_reason="given")
        for turn in result.turns
        for arm, took, mode in (("dense", 0.8, "dense"), ("kvcomm", 0.1, "reuse"))
    ]
    records = Results(write(dataclasses.replace(result, turns=turns, samples=[])))
    first = state(records, compare_arms(records))[0]
    assert first.text.startswith("Not measured: answers were not decoded")
    assert first.text.endswith("The TTFT summed over an item's turns has a speedup of 8.00x (8.00x to 8.00x).")
    assert "decoding is" not in first.text


def test_words_on_reasons(write, make_result):
    """Catches shares of one cell for those of all, and reasons that are missing passed over."""
    known = [
        with_reasons(make_result(dataclasses.replace(KVCOMM, seed=0, max_new_tokens=n)), marks)
        for n, marks in ((8, "CL++"), (9, "Cr++"))
    ]
    records = Results(write(*known))
    said = {one.about.split()[0]: one.text for one in state(records, compare_arms(records))}
    assert said["Reuse"].endswith(
        "Why the others did not, in shares of 8 turns: cold (question) 25.0%, too long (question) 12.5%, "
        "refused (answer) 12.5%."
    )
    records = Results(write(with_reasons(make_result(dataclasses.replace(KVCOMM, max_new_tokens=7)), "??++")))
    said = {one.about.split()[0]: one.text for one in state(records, compare_arms(records))}
    assert said["Reuse"].endswith("refused (answer) 12.5%. Why the others did not is not recorded in 1 cell.")


def test_words_on_a_probe(write, make_result):
    """Catches a measurement of keys and values taken for an arm that was not compared."""
    result = make_result(TrialSpec(workload=ContextsSpec()))
    records = Results(write(dataclasses.replace(result, turns=[], samples=[])))
    [said] = state(records, compare_arms(records))
    assert said.text.startswith("Keys and values were measured for themselves.")


def test_shards_are_said(write, make_result):
    """Catches reuse of divided trials set beside that of whole ones without a word."""

    def about(*specs):
        records = Results(write(*(make_result(spec, sweep=f"s{len(specs)}") for spec in specs)) / f"s{len(specs)}")
        return [said.text for said in state(records, compare_arms(records)) if said.about == "Shards"]

    assert about(DENSE, KVCOMM) == []
    found = about(DENSE, *(dataclasses.replace(KVCOMM, shards=shards) for shards in (2, 4)))
    assert [text.partition(",")[0] for text in found] == ["2 trials ran in 2 to 4 shards"]


def test_tails(write, make_result):
    """Catches a tail that few turns cannot show, seconds for milliseconds, and dense turns among the reusing."""
    one, other = TrialSpec(agents=2), TrialSpec(agents=2, method="kvcomm", parameters=KVCommConfig())
    slow = make_result(other, samples=60)
    turns = [dataclasses.replace(turn, ttft_s=1.0 if turn.sample_index >= 50 else turn.ttft_s) for turn in slow.turns]
    records = Results(write(make_result(one, samples=4), dataclasses.replace(slow, turns=turns)))
    (table,) = blocks_of(render_tails(records))
    assert table.rows == [
        ["recall, 2 agents, dense", "all", "8", "200.0", "-", "-"],
        ["recall, 2 agents, kvcomm", "all", "120", "100.0", "1000.0", "1000.0"],
        ["recall, 2 agents, kvcomm", "reusing", "118", "100.0", "1000.0", "1000.0"],
    ]
    assert render_tails(Results(write(make_result(one, sweep="t", status="error")) / "t")) is None


def test_blocks():
    """Catches heads of several lines, columns mistaken for rows, and alignment lost."""
    table = column_table([("a\nname", ["x", "y"]), ("ms", ["1", "2"])], left=("a\nname",))
    assert list(blocks_of(Group("above:", table))) == [
        Text("above:"),
        Grid(["a name", "ms"], [False, True], [["x", "1"], ["y", "2"]]),
    ]
