"""Files over files, profiles over files, the command line over all."""

import re

import pytest
from sweep_files import sweep_of

from sweeps.language.strict_yaml import SweepError, read_sweep_file

BASE = """name: base
workload: {name: recall, limit: 3}
seed: 4
zip: {agents: [2, 3], max_new_tokens: [8, 16]}
grid: {method: [dense, kvcomm], kvcomm.gamma: [0.1, 0.3]}
exclude: [{agents: 3, method: dense}]
"""


def cells(sweep):
    return {(trial.agents, trial.max_new_tokens, trial.method, trial.workload.limit) for trial in sweep.trials}


def test_a_file_that_changes_nothing_has_the_trials_of_its_base(tmp_path):
    """Catches entries lost on the way."""
    base = sweep_of(tmp_path, BASE)
    same = sweep_of(tmp_path, "name: mine\nextends: base.yaml", base=BASE)
    assert same.trials == base.trials
    assert same.name == "mine"


def test_entries_replace_those_of_the_base(tmp_path):
    """Catches a value that stands beside the one it replaces, and neighbours taken along."""
    text = "name: mine\nextends: base.yaml\nagents: 5\nworkload.limit: 7\ngrid: {method: [naive]}\n"
    assert cells(sweep_of(tmp_path, text, base=BASE)) == {(5, 8, "naive", 7), (5, 16, "naive", 7)}


def test_sections_replace_those_of_the_base(tmp_path):
    """Catches a zip that is added to the other, and rules of both files applied."""
    text = "name: mine\nextends: base.yaml\nzip: {agents: [4], max_new_tokens: [1]}\nexclude: [{method: kvcomm}]\n"
    assert cells(sweep_of(tmp_path, text, base=BASE)) == {(4, 1, "dense", 3)}


def test_a_rule_of_a_file_must_match_in_spite_of_its_own_fields(tmp_path):
    """Catches the leave for replaced fields being given to the very file that gives them."""
    text = "name: mine\nextends: base.yaml\nexclude: [{agents: 9}]\nagents: 2\n"
    with pytest.raises(SweepError, match=r"exclude\[0\] is {'agents': 9}, which matches no combination"):
        sweep_of(tmp_path, text, base=BASE)
    assert cells(sweep_of(tmp_path, "name: mine\nextends: base.yaml\nagents: 2\nmethod: kvcomm", base=BASE))


def test_chains_profiles_and_overrides_in_their_order(tmp_path):
    """Catches a lower layer that wins over a higher one."""
    middle = "name: middle\nextends: base.yaml\nseed: 5\nprofiles: {a: {seed: 6, agents: 7}, b: {rounds: 2}}"
    text = "name: mine\nextends: middle.yaml\nmax_new_tokens: 9\n"
    seeds = {
        trial.seed
        for profile in ("a", "b")
        for trial in sweep_of(tmp_path, text, profile=profile, base=BASE, middle=middle).trials
    }
    assert seeds == {6, 5}
    sweep = sweep_of(tmp_path, text, "seed=8", profile="a", base=BASE, middle=middle)
    assert {(trial.seed, trial.agents, trial.max_new_tokens) for trial in sweep.trials} == {(8, 7, 9)}


def test_the_text_of_a_sweep_needs_no_other_file(tmp_path):
    """Catches a sweep.yaml in the results that extends a file which is not there."""
    sweep = sweep_of(tmp_path, "name: mine\nextends: base.yaml\nrounds: 2", "agents=[2, 4]", base=BASE)
    (tmp_path / "base.yaml").unlink()
    assert sweep_of(tmp_path, sweep.text) == sweep


def test_a_base_is_found_beside_the_file_that_extends_it(tmp_path):
    """Catches paths taken from the current directory."""
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "base.yaml").write_text("name: b\nextends: ../root.yaml\nagents: 2")
    trials = sweep_of(tmp_path, "name: x\nextends: below/base.yaml", root="name: r\nseed: 9\nagents: 3").trials
    assert [(trial.seed, trial.agents) for trial in trials] == [(9, 2)]


def test_a_profile_over_another(tmp_path):
    """Catches a base profile that is left out or that wins, and a list of the base that is added to."""
    text = """name: x
profiles:
  whole: {agents: 4, workload: {name: recall, limit: 400}, method: [dense, kvcomm]}
  short: {extends: whole, workload.limit: 24}
  tiny: {extends: short, workload.limit: 2, method: [dense]}
"""
    limits = {"whole": (400, 2), "short": (24, 2), "tiny": (2, 1)}
    for profile, (limit, trials) in limits.items():
        found = sweep_of(tmp_path, text, profile=profile).trials
        assert {(trial.agents, trial.workload.limit) for trial in found} == {(4, limit)}
        assert len(found) == trials


@pytest.mark.parametrize(
    ("profiles", "message"),
    [
        ("{a: {extends: b}}", "profiles.a.extends is 'b'; allowed: no profile, as there is no other"),
        ("{a: {extends: a}, b: {agents: 2}}", "profiles.a.extends is 'a'; allowed: b"),
        ("{a: {extends: [b]}, b: {agents: 2}}", "profiles.a.extends is ['b']; allowed: b"),
        ("{a: {extends: b}, b: {extends: a}, c: {agents: 2}}", "profiles.b.extends is 'a'; allowed: c"),
    ],
)
def test_profiles_that_extend_nothing(tmp_path, profiles, message):
    """Catches a traceback, and a circle that has no end."""
    with pytest.raises(SweepError, match=re.escape(message)):
        sweep_of(tmp_path, f"name: x\nprofiles: {profiles}", profile="a")


def test_profiles_may_replace_sections(tmp_path):
    """Catches a list of rows or rules in a profile being taken for an axis."""
    text = "name: x\ngrid: {agents: [2, 3]}\nprofiles: {p: {zip: {agents: [4], seed: [1]}, exclude: [{agents: 3}]}}"
    with pytest.raises(SweepError, match=r"exclude\[0\] is {'agents': 3}, which matches no combination"):
        sweep_of(tmp_path, text, profile="p")
    trials = sweep_of(tmp_path, text.replace(", exclude: [{agents: 3}]", ""), profile="p").trials
    assert [(trial.agents, trial.seed) for trial in trials] == [(4, 1)]


def test_reading_leaves_the_file_as_it_is(tmp_path):
    """Catches layers that write into each other's data through a shared alias."""
    text = "name: x\ngrid: {workload: &w [{name: recall, limit: 3}], seed: [1]}\nprofiles: {p: {agents: 2}}"
    assert sweep_of(tmp_path, text, profile="p", limit=1).trials[0].workload.limit == 1
    assert read_sweep_file(tmp_path / "sweep.yaml")["grid"]["workload"] == [{"name": "recall", "limit": 3}]
