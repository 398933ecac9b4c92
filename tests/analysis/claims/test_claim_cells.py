"""Which rows of which trials a claim compares."""

import dataclasses

import pytest
from made_up import with_fidelity

from analysis.claims.claim_cells import ClaimCells
from analysis.claims.hypotheses import examine
from analysis.claims.ledger import Claim
from analysis.results import Results
from harness.spec import TrialSpec
from harness.workloads.recall import RecallSpec
from kvcomm_core.config import KVCommConfig

NAMED = {"id": "x", "says": "x", "source": "x", "sweep": "x", "tasks": ["recall"]}
NEAREST = Claim(
    **NAMED,
    measure="kl_next_token",
    test="superior",
    both={"agents": 2, "method": "kvcomm"},
    ours={"kvcomm.estimator": "nearest"},
    theirs={},
)


def kvcomm(limit=20, **parameters):
    workload = RecallSpec(limit=limit)
    return TrialSpec(agents=2, method="kvcomm", workload=workload, parameters=KVCommConfig(**parameters), fidelity=0.5)


def test_only_turns_checked_in_both_arms_count(write, make_result):
    """Catches arms compared over different turns: the later, harder ones were checked in one arm alone."""
    ours = with_fidelity(make_result(kvcomm(estimator="nearest"), samples=20), lambda turn: 0.1 * turn.sample_index)
    theirs = with_fidelity(make_result(kvcomm(), samples=20), lambda turn: 0.1 * turn.sample_index - 0.05)
    unchecked = [
        dataclasses.replace(turn, kl_next_token=None) if turn.sample_index > 9 and turn.agent_index == 2 else turn
        for turn in theirs.turns
    ]
    results = Results(write(ours, dataclasses.replace(theirs, turns=unchecked)))
    [found] = ClaimCells(results).observed(NEAREST)
    assert [len(rows) for rows in found.rows] == [9 + 19, 9 + 19]
    tested = examine(NEAREST, found.rows)
    assert (tested.effect, tested.low, tested.high) == pytest.approx((0.05, 0.05, 0.05))


def test_cells_of_one_comparison_agree_in_what_is_open(write, make_result):
    """Catches arms of different lengths of answers set beside each other, and a cell that misses its counterpart."""
    longer = dataclasses.replace(kvcomm(estimator="nearest"), max_new_tokens=99)
    results = write(*(with_fidelity(make_result(spec, samples=5), lambda _: 0.1) for spec in (longer, kvcomm())))
    assert list(ClaimCells(Results(results)).observed(NEAREST)) == []


def test_the_most_items_are_taken(write, make_result):
    """Catches a claim that is tested twice on the same model because it ran with two limits."""
    made = [
        with_fidelity(make_result(kvcomm(limit, **parameters), samples=limit), lambda _: 0.1)
        for limit in (8, 12)
        for parameters in ({}, {"estimator": "nearest"})
    ]
    [found] = ClaimCells(Results(write(*made))).observed(NEAREST)
    assert (found.n_items, found.task, len(found.trial_ids)) == (11, "recall", 2)
    assert "workload.limit=12" in found.settings


def test_one_agent_alone(write, make_result):
    """Catches the turns of all agents where a claim names one."""
    spec = TrialSpec(agents=2, method="kvcomm", workload=RecallSpec(limit=6), parameters=KVCommConfig())
    claim = Claim(
        **NAMED, measure="turn_reuse", test="superior", than=50.0, ours={"method": "kvcomm", "agents": 2, "agent": 2}
    )
    [found] = ClaimCells(Results(write(make_result(spec, samples=6)))).observed(claim)
    assert set(found.rows[0]["agent_index"]) == {2}
