"""Which rows of which trials a claim compares."""

import dataclasses
import datetime

import pytest
from made_up import with_fidelity

from analysis.claims.claim_cells import ClaimCells, matches, where_of, with_defaults
from analysis.claims.hypotheses import examine
from analysis.claims.ledger import Claim
from analysis.results import Results
from harness.cells import flatten
from harness.results.measurements import ProbeRecord
from harness.spec import TrialSpec
from harness.workloads.blend import BlendSpec
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


REUSE = Claim(**NAMED, measure="turn_reuse", test="superior", than=50.0, ours={"method": "kvcomm", "agents": 2})


def test_agents_that_read_the_answers_of_dense_are_another_question(write, make_result):
    """Catches trials whose agents' mistakes reach nobody, and of teams of somebody's own, taken for the paper's."""
    for change in ({"answers": "dense"}, {"topology": "chain"}, {"rounds": 2}):
        spec = dataclasses.replace(kvcomm(), **change)
        assert not matches(with_defaults(flatten(spec.to_dict())), where_of(REUSE.ours, "recall"))
    spec = flatten(kvcomm().to_dict())
    assert matches(spec, where_of(REUSE.ours, "recall"))
    assert not matches({**spec, "team": "mine (0123456789ab)"}, where_of(REUSE.ours, "recall"))


def test_a_field_that_a_version_did_not_know_has_its_default():
    """Catches an older trial that stands on both sides of a claim about a newer field, and equals itself."""
    spec = flatten(kvcomm().to_dict())
    older = with_defaults({key: value for key, value in spec.items() if key != "kvcomm.placement"})
    assert matches(older, where_of(REUSE.ours, "recall"))
    assert not matches(older, where_of({**REUSE.ours, "kvcomm.placement": "host"}, "recall"))


@pytest.mark.parametrize(("device", "found"), [("cpu", 1), ("cuda:0 NVIDIA H200", 0)])
def test_times_of_two_devices_are_two_comparisons(write, make_result, device, found):
    """Catches 5 anchors on one machine set beside 25 on another, when a sweep moved in its middle."""

    def timed(anchors, device):
        workload = BlendSpec(tokens=8, anchors=anchors)
        made = make_result(TrialSpec(method="kvcomm", workload=workload, parameters=KVCommConfig()))
        row = made.trial
        named = {"trial_id": row.trial_id, "attempt": 1, "repeat": 0, "bytes_read": 1}
        probe = ProbeRecord(**named, step="match", seconds=0.1)
        return dataclasses.replace(
            made, trial=dataclasses.replace(row, device=device), turns=[], samples=[], probes=[probe]
        )

    grows = Claim(
        **{**NAMED, "tasks": ["blend"]},
        measure="match_time",
        test="ordered",
        ours={"method": "kvcomm", "workload.tokens": 8},
        along={"workload.anchors": [5, 10]},
    )
    results = Results(write(timed(5, "cpu"), timed(10, device)))
    assert len(list(ClaimCells(results).observed(grows))) == found


@pytest.mark.parametrize("turned", [False, True])
def test_the_later_of_two_versions_counts(write, make_result, turned):
    """Catches a trial of a version that computed otherwise, taken since it came first."""
    first = make_result(kvcomm(), samples=20)
    day = datetime.timedelta(days=1)
    later = dataclasses.replace(first.trial, trial_id="f" * 12, ended_at=first.trial.ended_at + day)
    rows = [dataclasses.replace(turn, trial_id="f" * 12) for turn in first.turns]
    answers = [dataclasses.replace(sample, trial_id="f" * 12) for sample in first.samples]
    second = dataclasses.replace(first, trial=later, turns=rows, samples=answers, fidelity=[], anchors=[])
    [found] = ClaimCells(Results(write(*((second, first) if turned else (first, second))))).observed(REUSE)
    assert found.trial_ids == ("f" * 12,)


def test_one_agent_alone(write, make_result):
    """Catches the turns of all agents where a claim names one."""
    spec = TrialSpec(agents=2, method="kvcomm", workload=RecallSpec(limit=6), parameters=KVCommConfig())
    claim = Claim(
        **NAMED, measure="turn_reuse", test="superior", than=50.0, ours={"method": "kvcomm", "agents": 2, "agent": 2}
    )
    [found] = ClaimCells(Results(write(make_result(spec, samples=6)))).observed(claim)
    assert set(found.rows[0]["agent_index"]) == {2}
