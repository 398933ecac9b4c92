"""From files to the table: which attempt counts, what is compared with what, and that unknown is not zero."""

import dataclasses
import io
import json
from statistics import median

import pytest
from made_up import with_fidelity
from rich.console import Console

from analysis.results import Results
from analysis.tables.sweep_table import CellRow, cell_rows, render_cells, render_turns, rough_times
from harness.results.parquet_files import StoreError
from harness.results.trial_result import TrialResult
from harness.spec import TrialSpec
from kvcomm_core.config import KVCommConfig

DENSE = TrialSpec(agents=2)
LOW, HIGH = (TrialSpec(agents=2, method="kvcomm", parameters=KVCommConfig(gamma=gamma)) for gamma in (0.1, 0.3))


def with_ttft(result: TrialResult, ttft_s) -> TrialResult:
    """The result with ``ttft_s(turn)`` as the TTFT of each turn."""
    turns = [dataclasses.replace(turn, ttft_s=ttft_s(turn)) for turn in result.turns]
    return dataclasses.replace(result, turns=turns)


def test_a_batch_counts_its_time_once(write, make_result):
    """Four samples in a batch of three and one that is left. Would catch the time of a batch counted for each of its
    samples, and the size asked for taken for the size that was."""
    result = make_result(dataclasses.replace(DENSE, batch_size=3), samples=4)
    turns = [dataclasses.replace(turn, batch_size=3 if turn.sample_index < 3 else 1) for turn in result.turns]
    (row,) = cell_rows(Results(write(dataclasses.replace(result, turns=turns))))
    assert row.samples_per_minute == pytest.approx(60 * 4 / (2 * 2 * 1.2))


@pytest.mark.parametrize(
    ("cores", "told"),
    [
        ((0.05, 0.1), None),
        ((None, None), None),
        ((0.05, 1.5), "times are rough: other processes kept 1.5 cores busy while 1 of 2 cells ran"),
        ((0.5, 1.5), "times are rough: other processes kept 0.5 to 1.5 cores busy while 2 of 2 cells ran"),
    ],
)
def test_times_beside_other_work_are_called_rough(write, make_result, cores, told):
    """Catches a gain of trials that ran side by side printed like one of a quiet machine."""
    results = []
    for spec, n in zip((DENSE, LOW), cores, strict=True):
        result = make_result(spec)
        seconds = (result.trial.ended_at - result.trial.started_at).total_seconds()
        trial = dataclasses.replace(result.trial, others_cpu_s=None if n is None else n * seconds)
        results.append(dataclasses.replace(result, trial=trial))
    assert rough_times(cell_rows(Results(write(*results)))) == told


def test_the_row_of_each_cell(write, make_result):
    """Catches rates over the wrong turns, arms swapped, and a dense cell with a speedup."""
    rows = cell_rows(Results(write(make_result(LOW), make_result(DENSE), make_result(HIGH))))
    dense = CellRow(
        sweep="s",
        workload="recall",
        agents=2,
        method="dense",
        settings="",
        n_ok=1,
        n_total=1,
        n_samples=2,
        accuracy=0.5,
        token_reuse_rate=0.0,
        turn_reuse_rate=0.0,
        ttft_dense_s=0.2,
        ttft_reuse_s=None,
        speedup=None,
        speedup_over_prefix=None,
        n_pairs=0,
        beyond_prefix_rate=None,
        ttft_sum_s=pytest.approx(2 * 0.2),
        ttft_sum_speedup=None,
        ttft_sum_over_prefix=None,
        latency_s=pytest.approx(2 * 1.2),
        latency_speedup=None,
        latency_over_prefix=None,
        decode_share=pytest.approx(1 / 1.2),
        samples_per_minute=pytest.approx(60 * 2 / (4 * 1.2)),
        energy_j=None,
        n_checked=0,
        kl_next_token=None,
        top1_rate=None,
        greedy_agreement=None,
        key_cosine=None,
        value_cosine=None,
        others_cores=0.0,
        trial_ids=(DENSE.trial_id,),
    )
    reuse = dataclasses.replace(
        dense,
        token_reuse_rate=0.45,
        turn_reuse_rate=0.5,
        ttft_reuse_s=0.1,
        speedup=2.0,
        n_pairs=2,
        ttft_sum_s=pytest.approx((0.4 + 0.2) / 2),
        ttft_sum_speedup=pytest.approx(0.8 / 0.6),
        latency_s=pytest.approx((2.4 + 2.2) / 2),
        latency_speedup=pytest.approx(4.8 / 4.6),
        decode_share=pytest.approx(4 / 4.6),
        samples_per_minute=pytest.approx(60 * 2 / (2 * 1.2 + 2 * 1.1)),
    )
    assert rows == [
        dense,
        dataclasses.replace(reuse, method="kvcomm gamma=0.1", trial_ids=(LOW.trial_id,)),
        dataclasses.replace(reuse, method="kvcomm gamma=0.3", trial_ids=(HIGH.trial_id,)),
    ]


def test_speedup_is_the_median_of_paired_ratios(write, make_result):
    """Catches a ratio of medians, and warm-up turns (dense-mode turns of kvcomm) in the reuse TTFT, against loops."""
    dense = with_ttft(make_result(DENSE, samples=5), lambda turn: 0.1 * (1 + turn.sample_index**2) * turn.agent_index)
    reuse = with_ttft(make_result(LOW, samples=5), lambda turn: 0.01 * (7 - turn.sample_index + turn.agent_index))
    (_, row) = cell_rows(Results(write(dense, reuse)))
    pairs = [
        (theirs.ttft_s, ours.ttft_s)
        for ours in reuse.turns
        for theirs in dense.turns
        if ours.mode == "reuse"
        and (ours.item_id, ours.round, ours.agent_index) == (theirs.item_id, theirs.round, theirs.agent_index)
    ]
    assert row.n_pairs == len(pairs) == 8
    assert row.speedup == pytest.approx(median(theirs / ours for theirs, ours in pairs))
    assert row.ttft_dense_s == pytest.approx(median(theirs for theirs, _ in pairs))
    assert row.ttft_reuse_s == pytest.approx(median(ours for _, ours in pairs))
    assert row.speedup != pytest.approx(row.ttft_dense_s / row.ttft_reuse_s)


def test_only_equal_settings_are_compared(write, make_result):
    """Catches a speedup against a dense trial of other agents, another seed or another sweep."""
    others = (TrialSpec(agents=3), TrialSpec(agents=2, seed=1), TrialSpec(agents=2, max_new_tokens=9))
    results = [make_result(other) for other in others]
    rows = cell_rows(Results(write(make_result(LOW), *results, make_result(DENSE, sweep="elsewhere"))))
    (reuse,) = [row for row in rows if row.method == "kvcomm"]
    assert (reuse.n_pairs, reuse.speedup, reuse.ttft_dense_s) == (0, None, None)
    assert reuse.ttft_reuse_s == pytest.approx(0.1)


def test_seeds_are_repetitions_of_a_cell(write, make_result):
    """Catches a mean of means, and a turn paired with the same item of another seed."""
    results = []
    for seed, samples in [(0, 1), (1, 4)]:
        results += [
            make_result(dataclasses.replace(DENSE, seed=seed), samples=samples),
            make_result(dataclasses.replace(LOW, seed=seed), samples=samples),
        ]
    dense, reuse = cell_rows(Results(write(*results)))
    assert (dense.n_ok, dense.n_samples, dense.accuracy) == (2, 5, 3 / 5)
    assert reuse.n_pairs == 6
    assert reuse.turn_reuse_rate == 6 / 10


def test_the_latest_good_attempt_counts(write, make_result):
    """Catches turns of two attempts counted together, and a failure that hides an earlier success."""
    first, second = make_result(LOW, attempt=1, samples=2), make_result(LOW, attempt=2, samples=3)
    records = Results(write(make_result(DENSE), first, second, make_result(LOW, attempt=3, status="error")))
    assert sorted(records.trials["attempt"]) == [1, 2]
    assert len(records.turns) == 4 + 6
    assert len(records.samples) == 2 + 3


def test_failed_cells_have_dashes_not_zeros(write, make_result):
    """Catches metrics of a failed trial shown as 0."""
    results = write(make_result(DENSE), make_result(LOW, status="oom"))
    (_, row) = cell_rows(Results(results))
    assert (row.n_ok, row.n_total) == (0, 1)
    unknown = (
        "n_samples",
        "accuracy",
        "token_reuse_rate",
        "turn_reuse_rate",
        "ttft_dense_s",
        "ttft_reuse_s",
        "speedup",
        "speedup_over_prefix",
        "beyond_prefix_rate",
        "ttft_sum_s",
        "ttft_sum_speedup",
        "latency_s",
        "latency_speedup",
        "decode_share",
        "samples_per_minute",
        "energy_j",
    )
    assert [getattr(row, name) for name in unknown] == [None] * len(unknown)
    assert rendered([row]).splitlines()[-1].split() == ["recall", "2", "kvcomm", *["-"] * 8, "0/1"]


def test_rows_are_in_the_order_of_their_numbers(write, make_result):
    """Catches 10 before 5, and a dense row that stands apart from what is compared with it."""
    sizes = [
        TrialSpec(agents=agents, method="kvcomm", parameters=KVCommConfig(max_anchors=size))
        for agents in (10, 2)
        for size in (10, 5, 100)
    ]
    results = [make_result(spec) for spec in (*sizes, DENSE, TrialSpec(agents=10))]
    assert [(row.agents, row.method.partition("max_anchors=")[2]) for row in cell_rows(Results(write(*results)))] == [
        (agents, size) for agents in (2, 10) for size in ("", "5", "10", "100")
    ]


def test_only_failures(write, make_result):
    """Catches a table that fails when no trial has turns."""
    (row,) = cell_rows(Results(write(make_result(DENSE, status="killed"))))
    assert row.accuracy is None


def test_the_table_shows_what_differs(write, make_result):
    """Catches rows that cannot be told apart."""
    other = dataclasses.replace(DENSE, dtype="bfloat16")
    rows = cell_rows(Results(write(make_result(DENSE), make_result(other), make_result(DENSE, sweep="second"))))
    text = rendered(rows)
    assert "dtype=auto" in text
    assert "dtype=bfloat16" in text
    assert "second" in text
    assert "100.0" not in text
    assert "50.0%" in text
    assert "2.40" in text


def test_columns_over_prefix_appear_with_such_an_arm(write, make_result):
    """Catches columns of dashes where nothing was run to compare with, and the prefix arm's gain over itself."""
    dense, reuse = make_result(DENSE), make_result(LOW)
    rows = cell_rows(Results(write(dense, reuse)))
    assert "prefix" not in rendered(rows) + rendered(rows, render_turns)
    prefix = make_result(dataclasses.replace(DENSE, method="prefix"), sweep="t")
    turns = [dataclasses.replace(turn, mode="partial", ttft_s=0.15) for turn in prefix.turns]
    reuse = make_result(LOW, sweep="t")
    known = [dataclasses.replace(turn, exact_prefix_tokens=40) for turn in reuse.turns]
    write(
        make_result(DENSE, sweep="t"),
        dataclasses.replace(prefix, turns=turns),
        dataclasses.replace(reuse, turns=known),
    )
    ours, theirs = rows = cell_rows(Results(write() / "t"))[1:]
    assert (ours.method, theirs.method) == ("kvcomm", "prefix")
    assert (theirs.ttft_sum_over_prefix, theirs.speedup_over_prefix) == (None, None)
    assert theirs.ttft_sum_speedup == pytest.approx(0.2 / 0.15)
    assert ours.ttft_sum_over_prefix == pytest.approx(4 * 0.15 / 0.6)
    assert ours.latency_over_prefix == pytest.approx(4 * 1.15 / 4.6)
    assert ours.speedup_over_prefix == pytest.approx(1.5)
    assert ours.beyond_prefix_rate == pytest.approx((90 - 2 * 40) / 200)
    texts = [line.split()[3:] for line in rendered(rows).splitlines()[-2:]]
    assert texts == [
        ["50.0%", "50.0%", "2.30", "87%", "1.04x", "1.00x", "0.30", "1.33x", "1.00x", "26.1", "1/1"],
        ["50.0%", "0.0%", "2.30", "87%", "1.04x", "-", "0.30", "1.33x", "-", "26.1", "1/1"],
    ]
    texts = [line.split()[3:] for line in rendered(rows, render_turns).splitlines()[-2:]]
    assert texts == [
        ["45.0%", "5.0%", "200.0", "100.0", "2.00x", "1.50x", "2"],
        ["0.0%", "-", "200.0", "150.0", "1.33x", "-", "4"],
    ]


def test_numbers_survive_json(write, make_result):
    """Catches rounding, numpy scalars and NaN on the way to --json."""
    reuse = with_ttft(make_result(LOW), lambda turn: 0.1 + 1e-9 / 3 * turn.agent_index)
    rows = cell_rows(Results(write(make_result(DENSE), reuse)))
    text = json.dumps([dataclasses.asdict(row) for row in rows], allow_nan=False)
    assert [CellRow(**{**row, "trial_ids": tuple(row["trial_ids"])}) for row in json.loads(text)] == rows


def test_one_sweep_or_all(write, make_result, tmp_path):
    """Catches `show RESULTS/<sweep>` differing from that sweep's part of `show RESULTS`."""
    write(make_result(DENSE), make_result(DENSE, sweep="second"))
    both = cell_rows(Results(tmp_path))
    assert cell_rows(Results(tmp_path / "s")) + cell_rows(Results(tmp_path / "second")) == both
    with pytest.raises(StoreError, match="holds no results"):
        Results(tmp_path / "missing")


def test_partial_turns_are_compared_with_dense(write, make_result):
    """Catches methods that never reuse a whole prompt, such as prefix, shown without TTFT and speedup."""
    result = make_result(LOW, samples=3)
    turns = [dataclasses.replace(t, mode="partial") if t.mode == "reuse" else t for t in result.turns]
    (_, row) = cell_rows(Results(write(make_result(DENSE, samples=3), dataclasses.replace(result, turns=turns))))
    assert (row.turn_reuse_rate, row.n_pairs) == (0.0, 4)
    assert row.ttft_reuse_s == pytest.approx(0.1)
    assert row.speedup == pytest.approx(2)


def test_fidelity_is_the_mean_over_checked_turns(write, make_result):
    """Catches dense turns counted as agreeing, a mean over trials, and a cell whose row is not shown."""
    results = [make_result(DENSE, samples=4)]
    for seed, samples in [(0, 2), (1, 4)]:
        reuse = dataclasses.replace(LOW, seed=seed)
        results.append(with_fidelity(make_result(reuse, samples=samples), lambda t: 0.04 * t.sample_index))
    rows = cell_rows(Results(write(*results)))
    dense, row = rows
    away = [0.04 * sample for samples in (2, 4) for sample in range(1, samples) for _ in range(2)]
    assert (dense.n_checked, dense.kl_next_token, dense.top1_rate, dense.key_cosine) == (0, None, None, None)
    assert row.n_checked == len(away)
    assert row.kl_next_token == pytest.approx(sum(away) / len(away))
    assert row.top1_rate == sum(a < 0.1 for a in away) / len(away)
    assert row.greedy_agreement == pytest.approx(1 - sum(away) / len(away))
    assert row.key_cosine == pytest.approx(1 - sum(away) / len(away) / 10)
    assert row.value_cosine == pytest.approx(1 - sum(away) / len(away) / 5)


def test_from_sample_leaves_out_what_came_before(write, make_result):
    """Catches an accuracy, a rate or a dense arm that still counts the samples that filled the pools."""
    dense = with_ttft(make_result(DENSE, samples=5), lambda turn: 1.0 if turn.sample_index < 3 else 0.4)
    reuse = with_fidelity(make_result(LOW, samples=5), lambda turn: 1.0 if turn.sample_index < 3 else 0.02)
    records = Results(write(dense, reuse))
    (theirs, ours) = cell_rows(records.from_sample(3))
    assert (theirs.n_samples, theirs.accuracy, theirs.ttft_dense_s) == (2, 0.5, 0.4)
    assert (ours.n_samples, ours.turn_reuse_rate, ours.n_pairs, ours.n_checked) == (2, 1.0, 4, 4)
    assert (ours.kl_next_token, ours.speedup) == (pytest.approx(0.02), pytest.approx(4))
    assert cell_rows(records.from_sample(0)) == cell_rows(records)
    for first in (-1, 5):
        with pytest.raises(ValueError, match=f"{first}; allowed: 0 to 4"):
            records.from_sample(first)


def test_layers_are_those_of_the_attempt_that_counts(write, make_result):
    """Catches rows of an attempt that was repeated, and a failure where no sweep was checked."""
    assert Results(write(make_result(DENSE))).fidelity.empty
    first, second = (with_fidelity(make_result(LOW, attempt=n), lambda t: 0.3) for n in (1, 2))
    rows = Results(write(first, second)).fidelity
    assert set(rows["attempt"]) == {2}
    assert len(rows) == len(second.fidelity)
    assert sorted(rows["l2_error"]) == pytest.approx([0.3] * len(rows))


def rendered(rows, render=render_cells) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render(rows))
    return console.export_text()
