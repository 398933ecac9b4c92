"""Whole conversations from Parquet, against loops over the records.

These tests would catch turns of another arm in a sum, a time divided by its batch twice, a mean of ratios in place of a
ratio of sums, null taken for 0, a gain over half a conversation, and an arm compared with itself.
"""

import dataclasses
from statistics import mean, median

import pytest

from analysis import measures
from analysis.arms import Arms
from analysis.conversations import Conversations
from analysis.results import Results
from analysis.tables.sweep_table import cell_rows
from harness.results.trial_result import TrialResult
from harness.spec import TrialSpec
from harness.workloads.ttft import TtftSpec
from kvcomm_core.config import KVCommConfig
from sweeps.tracking.run_view import view_of

DENSE = TrialSpec(agents=2, rounds=2)
PREFIX = dataclasses.replace(DENSE, method="prefix")
KVCOMM = dataclasses.replace(DENSE, method="kvcomm", parameters=KVCommConfig())
OTHER = dataclasses.replace(DENSE, seed=1)


def timed(result: TrialResult, ttft_s, decode_s=lambda turn: 1.0, **fields) -> TrialResult:
    """The result with these times of each turn, and every turn once more in a second round."""
    twice = [dataclasses.replace(turn, round=round_) for turn in result.turns for round_ in (0, 1)]
    turns = [dataclasses.replace(turn, ttft_s=ttft_s(turn), decode_s=decode_s(turn), **fields) for turn in twice]
    return dataclasses.replace(result, turns=turns)


def arm_of(folder, result: TrialResult):
    return Arms(Results(folder)).of([result.trial.trial_id])


@pytest.fixture
def three(write, make_result):
    """Dense, prefix and kvcomm on five items, each with times of its own, beside a dense trial of another seed."""
    dense = timed(make_result(DENSE, samples=5), lambda t: 1.0 + t.sample_index + t.agent_index, lambda t: 2.0)
    prefix = timed(make_result(PREFIX, samples=5), lambda t: 0.5 + t.sample_index, lambda t: 2.5)
    ours = timed(
        make_result(KVCOMM, samples=5), lambda t: 0.2 * (t.round + t.agent_index), lambda t: 0.3 * (5 - t.sample_index)
    )
    stranger = timed(make_result(OTHER, samples=5), lambda t: 99.0)
    return write(dense, prefix, ours, stranger), dense, prefix, ours


def total(result: TrialResult, *columns: str) -> float:
    return sum(getattr(turn, column) for turn in result.turns for column in columns)


def test_sums_over_all_turns_of_an_item(three):
    folder, dense, _, ours = three
    arm = arm_of(folder, ours)
    assert measures.ttft_sum(arm).value == pytest.approx(1000 * total(ours, "ttft_s") / 5)
    assert measures.dense_ttft_sum(arm).value == pytest.approx(1000 * total(dense, "ttft_s") / 5)
    assert measures.latency(arm).value == pytest.approx(total(ours, "ttft_s", "decode_s") / 5)
    assert (measures.latency(arm).n, measures.latency(arm).n_clusters) == (5, 5)
    share = measures.decode_share(arm)
    assert share.value == pytest.approx(100 * total(ours, "decode_s") / total(ours, "ttft_s", "decode_s"))
    per_item = [
        sum(t.decode_s for t in ours.turns if t.sample_index == item)
        / sum(t.ttft_s + t.decode_s for t in ours.turns if t.sample_index == item)
        for item in range(5)
    ]
    assert share.value != pytest.approx(100 * mean(per_item), abs=0.5)
    assert share.low < share.value < share.high


def test_gains_are_ratios_of_sums(three):
    folder, dense, prefix, ours = three
    arm = arm_of(folder, ours)
    for baseline, theirs in (("dense", dense), ("prefix", prefix)):
        over = measures.ttft_sum_speedup(arm, baseline)
        assert over.value == pytest.approx(total(theirs, "ttft_s") / total(ours, "ttft_s"))
        assert over.n == 5
        whole = ("ttft_s", "decode_s")
        assert measures.latency_speedup(arm, baseline).value == pytest.approx(
            total(theirs, *whole) / total(ours, *whole)
        )
        turns = {(t.sample_index, t.round, t.agent_index): t.ttft_s for t in theirs.turns}
        pairs = [turns[t.sample_index, t.round, t.agent_index] / t.ttft_s for t in ours.turns if t.mode == "reuse"]
        assert measures.speedup(arm, baseline).value == pytest.approx(median(pairs))


def test_no_arm_is_compared_with_itself(three):
    folder, dense, prefix, _ = three
    for one in (dense, prefix):
        arm = arm_of(folder, one)
        assert measures.ttft_sum_speedup(arm, "prefix") is measures.speedup(arm, "prefix") is None
    assert measures.ttft_sum_speedup(arm_of(folder, dense)) is None
    over_dense = measures.ttft_sum_speedup(arm_of(folder, prefix))
    assert over_dense.value == pytest.approx(total(dense, "ttft_s") / total(prefix, "ttft_s"))


def test_only_whole_conversations_are_compared(write, make_result):
    """Catches a gain over the turns that happen to be in both."""
    dense = timed(make_result(DENSE, samples=6), lambda t: 1.0 + t.sample_index)
    ours = timed(make_result(KVCOMM, samples=6), lambda t: 0.5)
    torn = [t for t in dense.turns if (t.sample_index, t.round, t.agent_index) != (5, 1, 2)]
    arm = arm_of(write(dataclasses.replace(dense, turns=torn), ours), ours)
    found = measures.ttft_sum_speedup(arm)
    assert (found.value, found.n) == (pytest.approx(sum(range(1, 6)) / (5 * 0.5)), 5)
    assert measures.ttft_sum(arm).n == 6


def test_a_batch_is_waited_for_by_all_and_shared_by_all(write, make_result):
    result = timed(make_result(DENSE, samples=4), lambda t: 1.0, lambda t: 2.0, batch_size=4, phase_store_s=0.5)
    arm = arm_of(write(result), result)
    assert measures.ttft_sum(arm).value == pytest.approx(4 * 1000)
    assert measures.latency(arm).value == pytest.approx(4 * 3.5)
    assert measures.items_per_minute(arm).value == pytest.approx(60 * 4 / (4 * 3.5))


def test_rows_that_are_refilled_know_their_own_part(write, make_result):
    """Catches the time of a row counted for the machine, here and in ``conversation_of``."""
    own = {"ttft_share_s": 0.5, "decode_share_s": 0.25, "phase_store_s": 0.125, "batch_size": 4}
    result = timed(make_result(DENSE, samples=4), lambda t: 1.0, lambda t: 2.0, **own)
    arm = arm_of(write(result), result)
    assert measures.latency(arm).value == pytest.approx(len(result.turns) / 4 * 3.125)
    assert measures.items_per_minute(arm).value == pytest.approx(60 * 4 / (len(result.turns) * 0.875))


def test_what_was_not_measured_is_not_0(write, make_result):
    """Catches energy or publishing of the items that do not know them taken for 0, and given answers for decoded."""
    result = timed(make_result(KVCOMM, samples=3), lambda t: 1.0)
    samples = [dataclasses.replace(s, energy_j=[None, 10.0, 30.0][s.sample_index]) for s in result.samples]
    last = [(t.round, t.agent_index) == (1, 2) and t.sample_index == 0 for t in result.turns]
    turns = [
        dataclasses.replace(t, phase_publish_s=6.0 if ends else None)
        for t, ends in zip(result.turns, last, strict=True)
    ]
    arm = arm_of(write(dataclasses.replace(result, turns=turns, samples=samples)), result)
    assert (measures.energy(arm).value, measures.energy(arm).n) == (20.0, 2)
    assert measures.latency(arm).value == pytest.approx((3 * 4 * 2.0 + 6.0) / 3)
    assert measures.beyond_prefix_reuse(arm) is None
    given = timed(make_result(KVCOMM, sweep="given", samples=3), lambda t: 1.0, stop_reason="given")
    arm = arm_of(write(given) / "given", given)
    assert measures.latency(arm) is measures.decode_share(arm) is measures.items_per_minute(arm) is None
    assert measures.ttft_sum(arm).value == pytest.approx(4000)


def test_reuse_beyond_an_exact_prefix(write, make_result):
    """Catches a difference cut off at 0, a mean of rates, and turns that do not know it counted as 0."""
    result = make_result(KVCOMM, samples=3)
    turns = [
        dataclasses.replace(t, exact_prefix_tokens=[70, 30, None][t.sample_index], prompt_tokens=100 * t.agent_index)
        for t in result.turns
    ]
    dense = make_result(DENSE, samples=3)
    dense = dataclasses.replace(dense, turns=[dataclasses.replace(t, exact_prefix_tokens=70) for t in dense.turns])
    folder = write(dataclasses.replace(result, turns=turns), dense)
    found = measures.beyond_prefix_reuse(arm_of(folder, result))
    assert (found.value, found.n) == (pytest.approx(100 * (2 * (0 - 70) + 2 * (90 - 30)) / 600), 4)
    assert measures.beyond_prefix_reuse(arm_of(folder, dense)) is None


def test_a_timing_holds_its_own_prefix_arm(write, make_result):
    """Catches a timing compared with the arms of another trial, and a sum over three arms."""
    results = []
    for scale, config in ((1.0, KVCommConfig(estimator="mean")), (10.0, KVCommConfig(estimator="l2_norm"))):
        result = make_result(TrialSpec(agents=2, method="kvcomm", parameters=config, workload=TtftSpec()), samples=3)
        seconds = {"dense": 8.0 * scale, "prefix": 4.0 * scale, "bare": 99.0, "kvcomm": 1.0}
        turns = [
            dataclasses.replace(
                t,
                arm=arm,
                ttft_s=took * t.agent_index,
                mode="reuse" if arm == "kvcomm" else "dense",
                stop_reason="given",
            )
            for t in result.turns
            for arm, took in seconds.items()
        ]
        results.append(dataclasses.replace(result, turns=turns, samples=[]))
    folder = write(*results)
    for scale, result in zip((1.0, 10.0), results, strict=True):
        arm = arm_of(folder, result)
        assert measures.ttft_sum(arm).value == pytest.approx(3000)
        assert measures.ttft_sum_speedup(arm).value == pytest.approx(8 * scale)
        assert measures.ttft_sum_speedup(arm, "prefix").value == pytest.approx(4 * scale)
        assert measures.latency_speedup(arm) is None


def test_table_and_mlflow_agree(three):
    """Catches a second definition of a measure."""
    folder, _, _, ours = three
    (row,) = [row for row in cell_rows(Results(folder)) if row.method == "kvcomm"]
    told = {name: value for name, value, _ in view_of(ours, "a name", {}).metrics if not name.startswith("running/")}
    for name, value in (
        ("ttft_sum_s", row.ttft_sum_s),
        ("latency_s", row.latency_s),
        ("decode_share", row.decode_share),
        ("items_per_minute", row.samples_per_minute),
    ):
        assert told[name] == pytest.approx(value)
    arm = arm_of(folder, ours)
    assert Conversations.of_arm(arm).ratio("latency_s").estimate().value == pytest.approx(row.latency_s)
