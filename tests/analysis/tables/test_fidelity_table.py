"""The table of fidelity, on made-up results whose means can be counted by hand."""

import dataclasses
import io
import json
from typing import get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up import with_fidelity
from rich.console import Console

from analysis.results import Results
from analysis.tables.fidelity_table import fidelity_rows, render_fidelity
from analysis.tables.show import make_tables
from harness.spec import TrialSpec
from harness.workloads.gsm8k import Gsm8kSpec
from kvcomm_core.config import Estimator, KVCommConfig
from kvcomm_core.methods.baseline_config import CacheBlendConfig

DENSE = TrialSpec(agents=2)
LOW = TrialSpec(agents=2, method="kvcomm", parameters=KVCommConfig(gamma=0.1))
HIGH = TrialSpec(agents=2, method="kvcomm", parameters=KVCommConfig(gamma=0.3))


def rendered(rows, width=100):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(*render_fidelity(rows))
    return console.export_text()


def timed(result, seconds):
    """The result with turns that take ``seconds(turn)`` to the first token."""
    turns = [dataclasses.replace(turn, ttft_s=seconds(turn)) for turn in result.turns]
    return dataclasses.replace(result, turns=turns)


def with_computed_tokens(folder, trial_id, computed):
    """Write ``computed(mode)`` into the column ``computed_tokens`` of a trial's turns."""
    path = folder / "s" / "turns" / f"{trial_id}-1.parquet"
    rows = pq.read_table(path, partitioning=None)
    others = [name for name in rows.column_names if name != "computed_tokens"]
    values = pa.array([computed(mode) for mode in rows["mode"].to_pylist()], pa.float64())
    pq.write_table(rows.select(others).append_column("computed_tokens", values), path)


def test_divergences_are_means_over_checked_turns_by_item(write, make_result):
    """Seven items, of which the first is dense. Would catch dense turns counted as agreeing, the next token's numbers
    given for the answer's, and an interval that takes the two turns of an item for independent."""
    reuse = with_fidelity(make_result(LOW, samples=7), lambda turn: 0.01 * turn.sample_index)
    dense, row = fidelity_rows(Results(write(make_result(DENSE, samples=7), reuse)))
    away = [0.01 * sample for sample in range(1, 7)]
    assert (dense.n_turns, dense.n_checked, dense.kl_next_token, dense.kl_continuation) == (14, 0, None, None)
    assert (row.n_turns, row.n_checked) == (14, 12)
    mean = sum(away) / 6
    for found, expected in (
        (row.kl_next_token, mean),
        (row.kl_continuation, 2 * mean),
        (row.top1_continuation, 1 - mean / 2),
        (row.greedy_agreement, 1 - mean),
    ):
        assert found.value == pytest.approx(expected)
        assert (found.n, found.n_clusters) == (12, 6)
        assert found.low < found.value < found.high
    assert row.kl_continuation.high - row.kl_continuation.low > 0.045, "the spread of six items, not of twelve turns"


def test_cost_is_that_of_all_turns(write, make_result):
    """Would catch the TTFT of the reusing turns alone, a median of items' sums, and the sum over the whole trial."""
    dense = timed(make_result(DENSE, samples=3), lambda turn: 0.4)
    taken = {0: 1.0, 1: 0.2, 2: 0.1}
    reuse = with_fidelity(timed(make_result(LOW, samples=3), lambda turn: taken[turn.sample_index]), lambda turn: 0.1)
    folder = write(dense, reuse)
    theirs, ours = fidelity_rows(Results(folder))
    assert (theirs.ttft_s.value, theirs.conversation_ttft_s.value) == (pytest.approx(0.4), pytest.approx(0.8))
    assert ours.ttft_s.value == pytest.approx(0.2)
    assert ours.conversation_ttft_s.value == pytest.approx(2 * (1.0 + 0.2 + 0.1) / 3)
    assert (theirs.computed_rate, ours.computed_rate) == (None, None), "the results do not count them"
    with_computed_tokens(folder, LOW.trial_id, lambda mode: 100.0 if mode == "dense" else 10.0)
    theirs, ours = fidelity_rows(Results(folder))
    assert (theirs.computed_rate, ours.computed_rate.value) == (None, pytest.approx((2 * 100 + 4 * 10) / 600))


def test_the_warm_up_is_left_out(write, make_result):
    """Would catch a divergence or a cost that still counts the samples that filled the pools."""
    dense = timed(make_result(DENSE, samples=5), lambda turn: 1.0 if turn.sample_index < 3 else 0.4)
    reuse = timed(make_result(LOW, samples=5), lambda turn: 1.0 if turn.sample_index < 3 else 0.1)
    reuse = with_fidelity(reuse, lambda turn: 1.0 if turn.sample_index < 3 else 0.02)
    theirs, ours = fidelity_rows(Results(write(dense, reuse)).from_sample(3))
    assert (theirs.ttft_s.value, ours.n_turns, ours.n_checked) == (pytest.approx(0.4), 4, 4)
    assert (ours.kl_continuation.value, ours.conversation_ttft_s.value) == (pytest.approx(0.04), pytest.approx(0.2))


def test_only_checked_cells_and_their_dense_arm_are_shown(write, make_result):
    """Would catch rows of dashes for cells that nobody checked, and sweeps without any check."""
    checked = with_fidelity(make_result(LOW), lambda turn: 0.0)
    others = [make_result(HIGH), make_result(DENSE), make_result(TrialSpec(agents=3))]
    unchecked = [make_result(spec, sweep="other") for spec in (DENSE, LOW)]
    results = Results(write(checked, *others, *unchecked))
    rows = fidelity_rows(results)
    assert [(row.sweep, row.agents, row.method) for row in rows] == [
        ("s", 2, "dense"),
        ("s", 2, "kvcomm gamma=0.1"),
    ]
    assert len(render_fidelity(rows)) == 1
    assert fidelity_rows(results.of_sweep("other")) == []
    assert render_fidelity([]) == []


def test_unknown_is_a_dash_and_null(write, make_result):
    """Would catch 0 for what was not measured, as in results from before the continuation was compared."""
    old = with_fidelity(make_result(LOW), lambda turn: 0.25)
    turns = [
        dataclasses.replace(turn, kl_continuation=None, top1_continuation=None, continuation_tokens=None)
        for turn in old.turns
    ]
    results = Results(write(dataclasses.replace(old, turns=turns), make_result(DENSE)))
    dense, row = rendered(fidelity_rows(results)).splitlines()[-2:]
    assert dense.split() == ["dense", *["-"] * 7, "200", "400"]
    assert row.split() == ["kvcomm", "2/4", "0.250", "-", "-", "-", "75.0%", "-", "150", "300"]
    document = make_tables(results).to_dict()["fidelity"]
    assert [one["kl_continuation"] for one in document] == [None, None]
    assert document[1]["kl_next_token"]["value"] == 0.25
    json.dumps(document, allow_nan=False)


def test_the_table_of_the_fidelity_sweep_fits_100_columns(write, make_result):
    """Would catch names or numbers cut in two on an ordinary terminal: the methods of sweeps/fidelity.yaml, with times
    of a slow CPU."""
    base = TrialSpec(workload=Gsm8kSpec(limit=26))
    specs = [
        base,
        *(dataclasses.replace(base, method=method) for method in ("prefix", "naive")),
        *(
            dataclasses.replace(base, method="cacheblend", parameters=CacheBlendConfig(ratio=ratio))
            for ratio in (0.0, 0.1, 0.2)
        ),
        *(
            dataclasses.replace(base, method="kvcomm", parameters=KVCommConfig(estimator=estimator))
            for estimator in get_args(Estimator)
        ),
    ]
    results = []
    for spec in specs:
        result = timed(make_result(spec, samples=26), lambda turn: 12.3456)
        if spec.method != "dense":
            turns = [dataclasses.replace(turn, mode="reuse") for turn in result.turns]
            result = with_fidelity(dataclasses.replace(result, turns=turns), lambda turn: 1.5 + turn.sample_index / 100)
        results.append(result)
    folder = write(*results)
    for spec in specs:
        with_computed_tokens(folder, spec.trial_id, lambda mode: 100.0)
    text = rendered(fidelity_rows(Results(folder).from_sample(10)))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[1].endswith("an item's turns"), "the note does not wrap either"
    assert lines[0] == "s: gsm8k, 3 agents, compared with dense on the same prompts"
    names = [
        "dense",
        "cacheblend ratio=0.0",
        "cacheblend ratio=0.1",
        "cacheblend ratio=0.2",
        *(f"kvcomm estimator={estimator}" for estimator in sorted(get_args(Estimator))),
        "naive",
        "prefix",
    ]
    shown = [line for line in lines if any(line.startswith(name + " ") for name in names)]
    assert [next(name for name in names if line.startswith(name + " ")) for line in shown] == names
    for name, line in zip(names, shown, strict=True):
        numbers = line.removeprefix(name).split()
        assert len(numbers) == 9, "nothing wraps"
        assert numbers[-3:] == ["100.0%", "12346", "37037"]
    assert shown[-1].split()[1:3] == ["48/48", "1.675"]


def test_exact_reuse_is_the_noise(write, make_result):
    """Would catch noise where no exact method ran, and that of another sweep's prefix or of the first token rounded to
    0."""
    exact = make_result(TrialSpec(agents=2, method="prefix"), samples=3)
    partial = [dataclasses.replace(turn, mode="partial") for turn in exact.turns]
    exact = with_fidelity(dataclasses.replace(exact, turns=partial), lambda turn: 2e-9)
    reuse = with_fidelity(make_result(LOW, samples=3), lambda turn: 0.01)
    assert "noise" not in rendered(fidelity_rows(Results(write(reuse))))
    assert "prefix, which is exact, has a KL of up to 2.0e-09 nats" in rendered(fidelity_rows(Results(write(exact))))
