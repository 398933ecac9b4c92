"""The arms of a sweep beside one of them."""

import dataclasses
from io import StringIO

import pytest
from made_up import with_fidelity, with_outcomes
from rich.console import Console

from analysis.compare.contrasts import contrasts, make_contrasts, render_contrasts
from analysis.results import Results
from harness.spec import TrialSpec
from harness.workloads.gsm8k import Gsm8kSpec
from kvcomm_core.config import KVCommConfig

DENSE = TrialSpec(agents=2)
LOW, HIGH = (TrialSpec(agents=2, method="kvcomm", parameters=KVCommConfig(gamma=gamma)) for gamma in (0.1, 0.3))


def test_changes_over_what_both_have(write, make_result):
    """Catches a change of the wrong sign, one over turns that only one arm checked, and a dense arm among the rows."""
    low = with_fidelity(make_result(LOW, samples=12), lambda turn: 0.1)
    high = with_fidelity(
        with_outcomes(make_result(HIGH, samples=12), "+" * 9 + "---"),
        lambda turn: 0.5 if turn.sample_index == 11 else 0.3,
    )
    fewer = [t if t.sample_index != 11 else dataclasses.replace(t, kl_next_token=None) for t in low.turns]
    records = Results(write(make_result(DENSE, samples=12), dataclasses.replace(low, turns=fewer), high))
    same, other = contrasts(records, "kvcomm gamma=0.1")
    assert (same.cell, other.cell) == ("recall, 2 agents, kvcomm gamma=0.1", "recall, 2 agents, kvcomm gamma=0.3")
    assert (same.kl_change, same.accuracy_change) == (None, None)
    assert other.kl.value == pytest.approx((20 * 0.3 + 2 * 0.5) / 22)
    assert (other.kl_change.value, other.kl_change.n) == (pytest.approx(0.2), 20)
    assert (other.accuracy.value, other.accuracy_change.value) == (75, 25)
    assert other.accuracy_change.n == 12
    assert other.turn_reuse.value == pytest.approx(100 * 11 / 12)


def test_only_cells_of_the_same_setting(write, make_result):
    """Catches 3 agents compared with 2, one workload with another, and a baseline that no arm has taken for one
    without anything to compare."""
    three = dataclasses.replace(HIGH, agents=3)
    other = dataclasses.replace(HIGH, workload=Gsm8kSpec(limit=2))
    records = Results(write(make_result(LOW), make_result(HIGH), make_result(three), make_result(other)))
    assert [row.cell for row in contrasts(records, "kvcomm gamma=0.1")] == [
        "recall, 2 agents, kvcomm gamma=0.1",
        "recall, 2 agents, kvcomm gamma=0.3",
    ]
    with pytest.raises(ValueError, match=r"'kvcomm gamma=0.7'; allowed: 'kvcomm gamma=0.1', 'kvcomm gamma=0.3'"):
        make_contrasts(records, "kvcomm gamma=0.7")


def test_seeds_are_compared_with_themselves(write, make_result):
    """Catches items that several seeds answered paired across seeds, which doubles n."""
    specs = [dataclasses.replace(spec, seed=seed) for spec in (LOW, HIGH) for seed in (0, 1)]
    _, other = contrasts(Results(write(*(make_result(spec, samples=6) for spec in specs))), "kvcomm gamma=0.1")
    assert (other.accuracy_change.n, other.accuracy_change.n_clusters) == (12, 6)


def test_unknown_is_a_dash(write, make_result):
    """Catches a KL of 0 where nothing was checked."""
    console = Console(file=StringIO(), width=250)
    console.print(render_contrasts(contrasts(Results(write(make_result(LOW))), "kvcomm"), "kvcomm"))
    assert console.file.getvalue().splitlines()[-1].split()[-10:-4] == ["50.0", "-", "-", "-", "-", "-"]
