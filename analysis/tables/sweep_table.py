"""The table of a sweep: one row per cell, with each reusing arm next to its dense arm.

Timings have their own tables (``analysis.tables.speed_table``, ``analysis.tables.blend_table``) and have no rows here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.table import Table

from analysis.arms import Arm, Arms
from analysis.kinds import are_graded
from analysis.results import Results
from analysis.tables.rendering import column_table, decimal, milliseconds, percent, times
from harness.cells import Cell
from harness.results.rates import accuracy, token_reuse_rate, turn_reuse_rate

_NAMES = ("sweep", "settings", "workload", "method")


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRow:
    """One cell of a sweep. Unknown values are None."""

    sweep: str
    workload: str
    agents: int
    method: str
    settings: str
    """All other fields that vary between the cells of the sweep."""
    n_ok: int
    n_total: int
    """Number of attempted trials (seeds)."""
    n_samples: int | None
    accuracy: float | None
    """Correct samples over samples, for all ok trials."""
    token_reuse_rate: float | None
    """Reused prompt tokens over prompt tokens."""
    turn_reuse_rate: float | None
    """Turns that reused every segment over turns."""
    ttft_dense_s: float | None
    """Median over all turns for a dense arm, or over the dense counterparts of the reusing turns for another arm."""
    ttft_reuse_s: float | None
    """Median over the turns that reused all or part of the prompt."""
    speedup: float | None
    """Median over those turns of dense TTFT / reuse TTFT for the same item, round and agent."""
    n_pairs: int
    """Number of reusing turns that have such a dense turn."""
    samples_per_minute: float | None
    """Samples over the time of their turns: TTFT, decoding and storing. The time of a batch counts once."""
    n_checked: int
    """Number of turns compared with a dense turn on the same prompt; the next fields are means over them."""
    kl_next_token: float | None
    top1_rate: float | None
    greedy_agreement: float | None
    key_cosine: float | None
    value_cosine: float | None
    trial_ids: tuple[str, ...]


def cell_rows(results: Results) -> list[CellRow]:
    """Return the rows of all sweeps. The methods of a setting are adjacent, dense first."""
    rows: list[CellRow] = []
    for sweep in results.sweeps:
        arms = graded_arms(results.of_sweep(sweep))
        rows += [_row(sweep, cell, arm) for cell, arm in arms.items()]
    return rows


def graded_arms(results: Results) -> dict[Cell, Arm]:
    """Return the arms of one sweep that have graded answers, in row order."""
    return Arms(results).by_cell(results.trials[are_graded(results.trials)])


def _row(sweep: str, cell: Cell, arm: Arm) -> CellRow:
    turns, samples, reusing, pairs = arm.turns, arm.samples, arm.reusing, arm.paired_turns()
    is_dense, busy_s = cell.method.split()[0] == "dense", _busy_s(turns)
    return CellRow(
        sweep=sweep,
        workload=cell.workload,
        agents=cell.agents,
        method=cell.method,
        settings=cell.settings,
        n_ok=arm.n_ok,
        n_total=len(arm.trials),
        n_samples=len(samples) if arm.n_ok else None,
        accuracy=accuracy(samples["outcome"]),
        token_reuse_rate=token_reuse_rate(turns["reused_tokens"], turns["prompt_tokens"]),
        turn_reuse_rate=turn_reuse_rate(turns["mode"]),
        ttft_dense_s=median(turns["ttft_s"] if is_dense else pairs["ttft_s_dense"]),
        ttft_reuse_s=median(reusing["ttft_s"]),
        speedup=median(pairs["ttft_s_dense"] / pairs["ttft_s"]),
        n_pairs=len(pairs),
        samples_per_minute=60.0 * len(samples) / busy_s if busy_s else None,
        n_checked=int(turns["kl_next_token"].notna().sum()),
        kl_next_token=_mean(turns["kl_next_token"]),
        top1_rate=_mean(turns["top1_agree"]),
        greedy_agreement=_mean(turns["greedy_agreement"]),
        key_cosine=_mean(turns["key_cosine"]),
        value_cosine=_mean(turns["value_cosine"]),
        trial_ids=tuple(arm.trials["trial_id"]),
    )


def _busy_s(turns: pd.DataFrame) -> float:
    """Return the seconds of all turns. Turns of one batch have the same times, so each contributes its share."""
    seconds = turns["ttft_s"] + turns["decode_s"] + turns["phase_store_s"]
    return float((seconds / turns["batch_size"]).sum())


def median(values: "pd.Series[float]") -> float | None:
    """Return the median of the known values; None if there are none."""
    middle: Any = values.median()
    return None if pd.isna(middle) else float(middle)


def _mean(values: "pd.Series[float]") -> float | None:
    """Return the mean of the known values."""
    known = values.dropna()
    return float(known.astype("float64").mean()) if len(known) else None


def render_cells(rows: Sequence[CellRow]) -> Table:
    """Render the rows as a terminal table; unknown values are dashes."""
    columns = [
        ("accuracy", [percent(row.accuracy) for row in rows]),
        ("reuse\ntokens", [percent(row.token_reuse_rate) for row in rows]),
        ("reuse\nturns", [percent(row.turn_reuse_rate) for row in rows]),
        ("TTFT\ndense\nms", [milliseconds(row.ttft_dense_s) for row in rows]),
        ("TTFT\nreuse\nms", [milliseconds(row.ttft_reuse_s) for row in rows]),
        ("speed\nup", [times(row.speedup) for row in rows]),
        ("items\n/min", [decimal(row.samples_per_minute, 1) for row in rows]),
        ("ok", [f"{row.n_ok}/{row.n_total}" for row in rows]),
    ]
    return column_table([*_names(rows), *columns], left=_NAMES)


def _names(rows: Sequence[CellRow]) -> list[tuple[str, list[str]]]:
    """Return the columns that tell the rows apart."""
    columns = [
        ("workload", [row.workload for row in rows]),
        ("agents", [str(row.agents) for row in rows]),
        ("method", [row.method for row in rows]),
    ]
    if any(row.settings for row in rows):
        columns.insert(0, ("settings", [row.settings for row in rows]))
    if len({row.sweep for row in rows}) > 1:
        columns.insert(0, ("sweep", [row.sweep for row in rows]))
    return columns
