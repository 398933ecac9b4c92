"""Rows of the arena on made-up results: numbers counted by hand, bounds, the front, and the warm-up."""

import dataclasses
import json
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import with_fidelity, with_picks, write_results

from analysis.arena.budgets import budget_rows
from analysis.arena.rows import ArenaRow, arena_rows, entries_of, front_of, kind_of_arm
from analysis.arms import Arm
from analysis.results import Results
from analysis.stats import Estimate
from harness.spec import TrialSpec
from harness.workloads.judge import JudgeSpec
from kvcomm_core.config import KVCommConfig
from kvcomm_core.methods.baseline_config import EpicConfig

KINDS = ("method", "method", "bound", "exact")
DENSE = TrialSpec(agents=2)
NAIVE = TrialSpec(agents=2, method="naive", fidelity=1.0)
KVCOMM = TrialSpec(agents=2, method="kvcomm", fidelity=1.0)


@pytest.fixture
def arm(make_result):
    """``arm(spec, modes, kl, computed)``: a trial with a letter of ``modes`` per sample, ``d`` dense or ``r`` reusing,
    that is KL ``kl(sample)`` from dense and computes ``computed`` of 100 tokens in reusing turns."""

    def make(spec, modes, kl, computed=20.0, **fields):
        result = make_result(spec, samples=len(modes))
        turns = [
            dataclasses.replace(
                turn,
                mode="reuse" if modes[turn.sample_index] == "r" else "dense",
                computed_tokens=computed if modes[turn.sample_index] == "r" else 100.0,
                **fields,
            )
            for turn in result.turns
        ]
        return with_fidelity(dataclasses.replace(result, turns=turns), lambda turn: kl(turn.sample_index))

    return make


def rows_of(folder, first=0):
    whole = Results(folder)
    rows = arena_rows(entries_of(whole.from_sample(first)), whole.turns)
    return {row.arm: row for row in rows}


def test_dense_turns_count_with_no_distance(write, make_result, arm):
    """Catches the mean over the reusing turns alone, by which an arm that refuses hard turns looks better and costs
    nothing; and dense turns of trials of which only some turns were compared."""
    partly = dataclasses.replace(KVCOMM, fidelity=0.5, parameters=KVCommConfig(gamma=0.5))
    results = [
        make_result(DENSE, samples=8),
        arm(KVCOMM, "dddrrrrr", lambda sample: 0.01 * sample),
        arm(partly, "dddrrrrr", lambda sample: 0.5),
    ]
    rows = rows_of(write(*results))
    away = [0, 0, 0, 0.03, 0.04, 0.05, 0.06, 0.07]
    row = rows["kvcomm gamma=0.3"]
    assert row.kl_next_token.value == pytest.approx(sum(away) / 8)
    assert row.kl_continuation.value == pytest.approx(2 * sum(away) / 8)
    assert row.greedy_agreement.value == pytest.approx(1 - sum(away) / 8)
    assert (row.kl_next_token.n, row.kl_next_token.n_clusters) == (16, 8)
    assert row.computed_share.value == pytest.approx((3 * 100 + 5 * 20) / 800)
    assert row.reuse_share == pytest.approx(5 / 8)
    assert rows["kvcomm gamma=0.5"].kl_next_token is None
    assert rows["dense"].kl_next_token is None
    assert rows["dense"].kind == "exact"


def test_the_last_turn_of_each_conversation(write, arm):
    """Catches the mean over all agents where it is about the one who decides, and all turns of the last agent where a
    conversation has several rounds."""
    spec = dataclasses.replace(NAIVE, rounds=2)
    one_round = arm(spec, "rrrr", lambda sample: 0.0).turns
    two_rounds = [dataclasses.replace(turn, round=number) for number in (1, 2) for turn in one_round]
    last = (max(turn.round for turn in two_rounds), max(turn.agent_index for turn in two_rounds))
    turns = [
        dataclasses.replace(turn, computed_tokens=50.0 if (turn.round, turn.agent_index) == last else 10.0)
        for turn in two_rounds
    ]
    result = with_fidelity(
        dataclasses.replace(arm(spec, "rrrr", lambda sample: 0.0), turns=turns),
        lambda turn: 0.1 * turn.sample_index if (turn.round, turn.agent_index) == last else 5.0,
    )
    row = rows_of(write(result))["naive"]
    assert row.kl_last_turn.value == pytest.approx(0.15)
    assert row.computed_share_last_turn.value == pytest.approx(0.5)
    assert row.kl_next_token.value > 3


def test_given_answers_have_no_continuation(write, make_result, arm):
    """Catches dense turns of given answers counted as continuations without distance."""
    spec = TrialSpec(workload=JudgeSpec(), method="kvcomm", fidelity=1.0)
    picks = [{"A": -1.0, "B": -2.0}] * 6
    result = with_picks(arm(spec, "ddrrrr", lambda sample: 0.1), picks)
    turns = [
        dataclasses.replace(turn, kl_continuation=None, greedy_agreement=None) if turn.stop_reason == "given" else turn
        for turn in result.turns
    ]
    dense = with_picks(make_result(TrialSpec(workload=JudgeSpec()), samples=6), [*picks[:5], {"A": -2.0, "B": -1.0}])
    rows = rows_of(write(dense, dataclasses.replace(result, turns=turns)))
    row = rows["kvcomm"]
    assert row.kl_next_token.n == 18
    assert row.kl_continuation.n == row.greedy_agreement.n == 6
    assert row.kl_continuation.value == pytest.approx(0.2 * 4 / 6)
    assert row.judge_consistency.value == pytest.approx(5 / 6)
    assert row.judge_kappa.value == pytest.approx(0.0)


def test_answers_of_dense_have_a_continuation(write, make_result, arm):
    """Catches a mean continuation over the reusing turns alone, where dense's answers were given to all agents."""
    spec = dataclasses.replace(KVCOMM, answers="dense")
    result = arm(spec, "ddrrrr", lambda sample: 0.1)
    turns = [
        dataclasses.replace(turn, stop_reason="given", greedy_agreement=None) if turn.agent_index == 1 else turn
        for turn in result.turns
    ]
    dense = make_result(dataclasses.replace(DENSE, answers="dense"), samples=6)
    row = rows_of(write(dense, dataclasses.replace(result, turns=turns)))["kvcomm"]
    assert (row.kl_continuation.n, row.greedy_agreement.n) == (12, 6)
    assert row.kl_continuation.value == pytest.approx(0.2 * 4 / 6)


def test_a_judge_elsewhere_counts_for_the_same_arm(write, make_result, arm):
    """Catches the picks of another arm, and a column of judges that is empty wherever answers are free text."""
    picks = [{"A": -1.0, "B": -2.0}] * 6
    others = [{"A": -2.0, "B": -1.0}] * 3 + picks[:3]
    judges = TrialSpec(workload=JudgeSpec(), fidelity=1.0)
    results = [
        make_result(DENSE, samples=6),
        arm(NAIVE, "rrrrrr", lambda sample: 0.3),
        arm(KVCOMM, "drrrrr", lambda sample: 0.1),
        with_picks(make_result(TrialSpec(workload=JudgeSpec()), samples=6), picks),
        with_picks(arm(dataclasses.replace(judges, method="naive"), "rrrrrr", lambda sample: 0.3), others),
        with_picks(arm(dataclasses.replace(judges, method="kvcomm"), "rrrrrr", lambda sample: 0.3), picks),
    ]
    rows = {
        (row.situation.split(",")[0], row.arm): row
        for whole in [Results(write(*results))]
        for row in arena_rows(entries_of(whole), whole.turns)
    }
    for workload in ("recall", "judge"):
        assert rows[workload, "naive"].judge_consistency.value == pytest.approx(0.5)
        assert rows[workload, "kvcomm"].judge_consistency.value == 1.0
        assert rows[workload, "dense"].judge_consistency is None


@pytest.mark.parametrize(
    ("modes", "expected"), [("dddrrdrr", 3.0), ("rrrrrrrr", 0.0), ("dddddddd", None), ("dddddddr", 7.0)]
)
def test_warm_up_counts_from_the_beginning(write, arm, modes, expected):
    """Catches a warm-up of 0 because the first samples were left out, and one that ends with the last dense turn."""
    folder = write(arm(KVCOMM, modes, lambda sample: 0.1) if "r" in modes else dense_only(arm, modes))
    assert rows_of(folder)["kvcomm"].warm_up_samples == expected
    assert rows_of(folder, first=5)["kvcomm"].warm_up_samples == expected


def dense_only(arm, modes):
    """A trial without any reuse, which has no turn to check."""
    warm = arm(KVCOMM, "r" * len(modes), lambda sample: 0.1)
    turns = [dataclasses.replace(turn, mode="dense", kl_next_token=None) for turn in warm.turns]
    return dataclasses.replace(warm, turns=turns)


def test_one_reusing_turn_is_no_warm_sample(write, arm):
    """Catches a sample called warm while another of its turns is dense; and a trial that never gets warm left out of
    the mean of two seeds."""
    first = arm(KVCOMM, "ddrrrr", lambda sample: 0.1)
    turns = [
        dataclasses.replace(turn, mode="dense") if (turn.sample_index, turn.agent_index) == (2, 2) else turn
        for turn in first.turns
    ]
    first = dataclasses.replace(first, turns=turns)
    second = arm(dataclasses.replace(KVCOMM, seed=1), "rrrrrr", lambda sample: 0.1)
    folder = write(first, second)
    assert rows_of(folder)["kvcomm"].warm_up_samples == pytest.approx((3 + 0) / 2)


@pytest.mark.parametrize(("estimated", "reuses"), [(0, False), (5, True)])
def test_a_turn_that_keeps_its_prefix_alone_does_not_reuse(write, arm, estimated, reuses):
    """Catches a reuse rate that counts refused turns under ``fallback: prefix``, and one that drops ``partial`` turns
    of which a part is estimated."""
    warm = arm(KVCOMM, "rrrr", lambda sample: 0.1, estimated_tokens=50)
    cold = {"mode": "partial", "no_reuse_reason": "cold", "no_reuse_placeholder": "q", "estimated_tokens": estimated}
    turns = [dataclasses.replace(turn, **cold) if turn.sample_index == 0 else turn for turn in warm.turns]
    if not reuses:  # it is not compared, either
        turns = [dataclasses.replace(turn, kl_next_token=None) if turn.sample_index == 0 else turn for turn in turns]
    row = rows_of(write(dataclasses.replace(warm, turns=turns)))["kvcomm"]
    assert row.kl_next_token.value == pytest.approx(0.1 if reuses else 0.075)
    assert (row.reuse_share, row.warm_up_samples) == ((1.0, 0.0) if reuses else (0.75, 1.0))


def test_seeds_of_which_one_never_warms_up(write, arm):
    folder = write(arm(KVCOMM, "rrrrrr", lambda sample: 0.1), dense_only(arm_of(arm, seed=1), "dddddd"))
    assert rows_of(folder)["kvcomm"].warm_up_samples is None


def arm_of(arm, seed):
    return lambda spec, modes, kl: arm(dataclasses.replace(spec, seed=seed), modes, kl)


def test_a_bound_is_marked_and_not_on_the_front(write, arm):
    """Catches a bound that wins the comparison, since it decides by what no method can know."""
    oracle = arm(NAIVE, "rrrrrr", lambda sample: 0.001, computed=10.0)
    text = oracle.trial.spec_json.replace('"naive"', '"oracle"')
    trial = dataclasses.replace(oracle.trial, method="oracle", spec_json=text)
    turns = [dataclasses.replace(turn, arm="oracle") for turn in oracle.turns]
    epic = arm(TrialSpec(agents=2, method="epic", fidelity=1.0), "rrrrrr", lambda sample: 0.2, computed=30.0)
    rows = rows_of(write(dataclasses.replace(oracle, trial=trial, turns=turns), epic))
    assert (rows["oracle (bound)"].kind, rows["oracle (bound)"].on_front) == ("bound", False)
    assert (rows["epic"].kind, rows["epic"].on_front) == ("method", True)
    budgets = budget_rows(list(rows.values()))
    assert [(row.budget, row.arm) for row in budgets] == [
        (0.15, "oracle (bound)"),
        (0.3, "epic"),
        (0.3, "oracle (bound)"),
        (0.5, "epic"),
        (0.5, "oracle (bound)"),
    ]


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ({"method": "kvcomm", "kvcomm": {"criterion": "oracle"}}, "bound"),
        ({"method": "kvcomm", "kvcomm": {"recompute": "oracle:0.1"}}, "bound"),
        ({"method": "kvcomm", "kvcomm": {"criterion": "always"}, "oracle": {"max_kl": 0.1}}, "method"),
        ({"method": "oracle", "oracle": {"max_kl": 0.1}}, "bound"),
        ({"method": "prefix"}, "exact"),
    ],
)
def test_kinds_of_arms(spec, kind):
    """Catches a criterion that knows the true error among the competitors, and an arm that only stands beside one."""
    trials = pd.DataFrame({"spec_json": [json.dumps(spec)]})
    assert kind_of_arm(Arm(lambda frame: trials)) == kind


def test_a_bound_does_not_stand_for_its_method(write, arm):
    """Catches a budget in which kvcomm is represented by its own bound."""
    specs = [dataclasses.replace(KVCOMM, parameters=KVCommConfig(gamma=gamma)) for gamma in (0.1, 0.2)]
    bound, other = (arm(spec, "rrrrrr", lambda sample, kl=kl: kl) for spec, kl in zip(specs, (0.01, 0.2), strict=True))
    text = re.sub('"criterion": "[a-z_]+"', '"criterion": "oracle"', bound.trial.spec_json)
    bound = dataclasses.replace(bound, trial=dataclasses.replace(bound.trial, spec_json=text))
    rows = budget_rows(list(rows_of(write(bound, other)).values()))
    assert [(row.budget, row.kind) for row in rows if row.budget == 0.3] == [(0.3, "method"), (0.3, "bound")]


def test_the_best_arm_of_a_method_within_a_budget(write, arm):
    """Catches an arm that computes more than the budget, and the cheapest arm instead of the nearest to dense."""

    def epic(first, kl, computed):
        spec = TrialSpec(agents=2, method="epic", fidelity=1.0, parameters=EpicConfig(first=first))
        return arm(spec, "rrrrrr", lambda sample: kl, computed=computed)

    rows = rows_of(write(epic(1, 0.4, 4.0), epic(4, 0.2, 14.0), epic(16, 0.1, 31.0)))
    assert list(rows) == ["epic first=1", "epic first=4", "epic first=16"]
    assert [(row.budget, row.arm) for row in budget_rows(list(rows.values()))] == [
        (0.05, "epic first=1"),
        (0.15, "epic first=4"),
        (0.3, "epic first=4"),
        (0.5, "epic first=16"),
    ]


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6), st.sampled_from(KINDS)), min_size=1, max_size=9))
def test_the_front_against_every_pair(points):
    """Catches a front that holds a beaten arm, or misses one; a bound that beats, and an exact arm that does not."""
    template = {name: None for name in ("kl_continuation", "greedy_agreement", "judge_consistency", "judge_kappa")}
    template |= {name: None for name in ("kl_last_turn", "computed_share_last_turn")}
    template |= {name: None for name in ("judge_balanced", "ttft_s", "conversation_ttft_s", "reuse_share")}
    rows = [
        ArenaRow(
            situation="s", arm="a", kind=kind, n_items=1, n_turns=1, pool_bytes=None, warm_up_samples=None,
            on_front=False, kl_next_token=Estimate(kl, None, None, 1, 1),
            computed_share=Estimate(share, None, None, 1, 1), **template,
        )
        for share, kl, kind in points
    ]  # fmt: skip

    def beaten(share, kl):
        others = [point[:2] for point in points if point[2] != "bound"]
        return any(o != (share, kl) and o[0] <= share and o[1] <= kl for o in others)

    front = {points[index][:2] for index in front_of(rows)}
    best = {(share, kl) for share, kl, kind in points if kind == "method" and not beaten(share, kl)}
    ties = {point[:2] for point in points if point[2] == "exact"}  # which of two equal ones stays means nothing
    assert front - ties == best - ties


def test_a_trial_that_two_sweeps_ran_counts_once(tmp_path, make_result, arm):
    """Catches items counted twice, which would make intervals too narrow."""
    own = arm(NAIVE, "rrrrrr", lambda sample: 0.3)
    again = dataclasses.replace(own, trial=dataclasses.replace(own.trial, sweep="again"))
    [row] = rows_of(write_results(tmp_path, own, again)).values()
    assert row.n_turns == 12
