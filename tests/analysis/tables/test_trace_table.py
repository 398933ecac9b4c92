"""The tables of replayed logs: their numbers are those of the turns, paired with the dense trial of the sweep."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from made_up import MakeResult, make_result, write_results
from rich.console import Console

from analysis.results import Results
from analysis.tables.show import make_tables
from analysis.tables.trace_table import TraceRow, trace_rows
from harness.results.trial_result import TrialResult
from harness.spec import TrialSpec
from harness.workloads.trace import TraceSpec

__all__ = ["make_result"]

DENSE = TrialSpec(workload=TraceSpec(path="log.jsonl"))
NAIVE = replace(DENSE, method="naive", fidelity=0.5)


def replayed(result: TrialResult) -> TrialResult:
    """Turns of calls: 100 prompt tokens each, of which the last agent's had no template; naive computes 10, and takes a
    tenth of a second where dense takes the number of its agent in tenths."""
    naive = result.trial.method == "naive"
    turns = [
        replace(
            turn,
            agent_role=("planner", "worker", "judge")[turn.agent_index - 1],
            template=None if turn.agent_index == 3 else str(turn.agent_index),
            mode="reuse" if naive and turn.agent_index < 3 else "dense",
            computed_tokens=10.0 if naive and turn.agent_index < 3 else 100.0,
            exact_prefix_tokens=20,
            ttft_s=0.1 if naive else 0.1 * turn.agent_index,
            kl_next_token=0.2 * turn.agent_index if naive and turn.agent_index < 3 else None,
            top1_agree=turn.agent_index == 1 if naive and turn.agent_index < 3 else None,
            outcome=None,
        )
        for turn in result.turns
    ]
    return replace(result, turns=turns, samples=[])


@pytest.fixture
def results(tmp_path: Path, make_result: MakeResult) -> Results:
    return Results(write_results(tmp_path, *(replayed(make_result(spec)) for spec in (DENSE, NAIVE))))


def test_rows(results: Results) -> None:
    """Catches a method without its dense turns, turns without a template that pass for reuse, and means of medians."""
    rows = trace_rows(results)
    assert [(row.method, row.agent) for row in rows] == [
        (method, agent) for method in ("dense", "naive") for agent in (None, "planner", "worker", "judge")
    ]
    assert rows[4] == TraceRow(
        sweep="s",
        log="trace",
        method="naive",
        settings="",
        agent=None,
        n_turns=6,
        n_dense=2,
        prompt_tokens=600,
        computed=pytest.approx(240 / 600),
        exact_prefix=pytest.approx(0.2),
        ttft_s=pytest.approx(0.1),
        speedup=pytest.approx(2.0),
        overall=pytest.approx(2.0),
        n_checked=4,
        kl_next_token=pytest.approx(0.3),
        top1_rate=pytest.approx(0.5),
    )
    judge = rows[7]
    assert (judge.n_dense, judge.speedup, judge.kl_next_token) == (2, pytest.approx(3.0), None)
    assert (rows[0].n_dense, rows[0].speedup, rows[0].overall) == (0, None, None)


def test_the_tables(results: Results) -> None:
    """Catches tables that no terminal shows whole, and calls without a template that are not mentioned."""
    console = Console(file=io.StringIO(), width=80)
    make_tables(results).print(console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert "s: 6 calls of a log; computed and prefix in percent of the prompt tokens" in text
    assert "up to 2 calls had no template and were taken dense, except by prefix" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["naive", "600", "40.0%", "20.0%", "100.0", "2.00x", "2.00x", "0.300", "50.0%"] in rows
    assert ["judge", "naive", "200", "100.0%", "20.0%", "100.0", "3.00x", "3.00x", "-", "-"] in rows


def test_no_log_was_replayed(tmp_path: Path, make_result: MakeResult) -> None:
    assert trace_rows(Results(write_results(tmp_path, make_result(TrialSpec())))) == []
