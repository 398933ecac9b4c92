"""The table of a sweep: one row per cell, with each reusing arm next to its dense arm.

Timings have their own tables (``analysis.tables.speed_table``, ``analysis.tables.blend_table``) and have no rows here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.table import Table

from analysis.arms import Arm, Baseline, arms_of
from analysis.conversations import Conversations, beyond_prefix, gain, value_if_known
from analysis.devices import QUIET, others_cores
from analysis.results import Results
from analysis.tables.rendering import Columns, column_table, decimal, known, milliseconds, percent, sweep_column, times
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
    speedup_over_prefix: float | None
    """The same for the TTFT of an arm ``prefix``."""
    n_pairs: int
    """Number of reusing turns that have such a dense turn."""
    beyond_prefix_rate: float | None
    """Tokens reused beyond those that an exact prefix cache would have reused, over prompt tokens; may be below 0."""
    ttft_sum_s: float | None
    """TTFT summed over the turns of an item, mean over items. Like the next eight fields, see
    ``analysis.conversations``."""
    ttft_sum_speedup: float | None
    """The dense arm's sum over this one, over all items."""
    ttft_sum_over_prefix: float | None
    latency_s: float | None
    """Time of an item's turns, mean over items: TTFT, decoding, storing and publishing."""
    latency_speedup: float | None
    """The dense arm's latency over this one, over all items: what a conversation gains."""
    latency_over_prefix: float | None
    decode_share: float | None
    """Decoding's share of the latency of all items."""
    samples_per_minute: float | None
    """Items over the latency of all items, where the time of a batch counts once."""
    energy_j: float | None
    """Energy that an item takes, mean over items."""
    n_checked: int
    """Number of turns compared with a dense turn on the same prompt; the next fields are means over them."""
    kl_next_token: float | None
    top1_rate: float | None
    greedy_agreement: float | None
    key_cosine: float | None
    value_cosine: float | None
    others_cores: float | None
    """Mean number of cores that other processes kept busy meanwhile."""
    trial_ids: tuple[str, ...]


def cell_rows(results: Results) -> list[CellRow]:
    """Return the rows of all sweeps. The methods of a setting are adjacent, dense first."""
    return [_row(sweep, cell, arm) for sweep, cell, arm in graded_cells(results)]


def graded_cells(results: Results) -> Iterator[tuple[str, Cell, Arm]]:
    """Yield the arms of each sweep that have graded answers, in row order."""
    for sweep in results.sweeps:
        for cell, arm in graded_arms(results.of_sweep(sweep)).items():
            yield sweep, cell, arm


def graded_arms(results: Results) -> dict[Cell, Arm]:
    """Return the arms of one sweep that have graded answers, in row order."""
    return arms_of(results).graded


def _row(sweep: str, cell: Cell, arm: Arm) -> CellRow:
    turns, samples, reusing, pairs = arm.turns, arm.samples, arm.reusing, arm.paired_turns()
    is_dense, whole = cell.method.split()[0] == "dense", Conversations.of_arm(arm)
    prefix_pairs = arm.paired_turns("prefix")

    def over(baseline: Baseline, name: str) -> float | None:
        return value_if_known(gain(arm, baseline, name))

    return CellRow(
        sweep=sweep,
        workload=cell.workload,
        agents=cell.agents,
        method=cell.method,
        settings=cell.settings,
        n_ok=arm.n_ok,
        n_total=len(arm.trials),
        n_samples=len(samples) if arm.n_ok else None,
        accuracy=accuracy(samples["outcome"].dropna()),
        token_reuse_rate=token_reuse_rate(turns["reused_tokens"], turns["prompt_tokens"]),
        turn_reuse_rate=turn_reuse_rate(turns["mode"]),
        ttft_dense_s=median(turns["ttft_s"] if is_dense else pairs["ttft_s_dense"]),
        ttft_reuse_s=median(reusing["ttft_s"]),
        speedup=median(pairs["ttft_s_dense"] / pairs["ttft_s"]),
        speedup_over_prefix=median(prefix_pairs["ttft_s_prefix"] / prefix_pairs["ttft_s"]),
        n_pairs=len(pairs),
        beyond_prefix_rate=value_if_known(beyond_prefix(arm)),
        ttft_sum_s=value_if_known(whole.ratio("ttft_sum_s")),
        ttft_sum_speedup=over("dense", "ttft_sum_s"),
        ttft_sum_over_prefix=over("prefix", "ttft_sum_s"),
        latency_s=value_if_known(whole.ratio("latency_s")),
        latency_speedup=over("dense", "latency_s"),
        latency_over_prefix=over("prefix", "latency_s"),
        decode_share=value_if_known(whole.ratio("decode_share")),
        samples_per_minute=value_if_known(whole.ratio("items_per_minute")),
        energy_j=value_if_known(whole.ratio("energy_j")),
        n_checked=int(turns["kl_next_token"].notna().sum()),
        kl_next_token=mean(turns["kl_next_token"]),
        top1_rate=mean(turns["top1_agree"]),
        greedy_agreement=mean(turns["greedy_agreement"]),
        key_cosine=mean(turns["key_cosine"]),
        value_cosine=mean(turns["value_cosine"]),
        others_cores=others_cores(arm.trials[arm.trials["status"] == "ok"]),
        trial_ids=tuple(arm.trials["trial_id"]),
    )


def median(values: "pd.Series[float]") -> float | None:
    """Return the median of the known values; None if there are none."""
    middle: Any = values.median()
    return None if pd.isna(middle) else float(middle)


def mean(values: "pd.Series[float]") -> float | None:
    """Return the mean of the known values."""
    known = values.dropna()
    return float(known.astype("float64").mean()) if len(known) else None


def render_cells(rows: Sequence[CellRow]) -> Table:
    """Render what whole conversations gain; unknown values are dashes.

    Gains are over dense, or over ``prefix`` where the sweep has that arm. A column that no row knows is left out if it
    needs such an arm, or a GPU.
    """
    columns = [
        ("accuracy", [percent(row.accuracy) for row in rows]),
        ("reuse\nturns", [percent(row.turn_reuse_rate) for row in rows]),
        ("item\ns", [decimal(row.latency_s, 2) for row in rows]),
        ("decode\nshare", [percent(row.decode_share, 0) for row in rows]),
        ("item\nspeed\nup", [times(row.latency_speedup) for row in rows]),
        *known([("item\nover\nprefix", [times(row.latency_over_prefix) for row in rows])]),
        ("TTFT\nsum\ns", [decimal(row.ttft_sum_s, 2) for row in rows]),
        ("TTFT\nspeed\nup", [times(row.ttft_sum_speedup) for row in rows]),
        *known([("TTFT\nover\nprefix", [times(row.ttft_sum_over_prefix) for row in rows])]),
        ("items\n/min", [decimal(row.samples_per_minute, 1) for row in rows]),
        *known([("J\n/item", [decimal(row.energy_j, 1) for row in rows])]),
        ("ok", [f"{row.n_ok}/{row.n_total}" for row in rows]),
    ]
    return column_table([*_names(rows), *columns], left=_NAMES)


def rough_times(rows: Sequence[CellRow]) -> str | None:
    """Return a line that warns of times taken beside other work; None if there was none, as far as the trials know."""
    busy = [row.others_cores for row in rows if row.others_cores is not None and row.others_cores > QUIET]
    if not busy:
        return None
    low, high = (f"{end(busy):.1f}" for end in (min, max))
    cores = low if low == high else f"{low} to {high}"
    return f"times are rough: other processes kept {cores} cores busy while {len(busy)} of {len(rows)} cells ran"


def may_reuse(row: CellRow) -> bool:
    """Return whether the cell has turns that may have reused something."""
    return row.n_ok > 0 and row.method.split()[0] != "dense"


def render_turns(rows: Sequence[CellRow]) -> Table:
    """Render what single turns reused and gained, for the cells that may reuse anything; unknown values are dashes."""
    shown = [row for row in rows if may_reuse(row)]
    columns = [
        ("reuse\ntokens", [percent(row.token_reuse_rate) for row in shown]),
        *known([("beyond\nprefix", [percent(row.beyond_prefix_rate) for row in shown])]),
        ("TTFT\ndense\nms", [milliseconds(row.ttft_dense_s) for row in shown]),
        ("TTFT\nreuse\nms", [milliseconds(row.ttft_reuse_s) for row in shown]),
        ("speed\nup", [times(row.speedup) for row in shown]),
        *known([("over\nprefix", [times(row.speedup_over_prefix) for row in shown])]),
        ("turns", [str(row.n_pairs) for row in shown]),
    ]
    return column_table([*_names(shown), *columns], left=_NAMES)


def _names(rows: Sequence[CellRow]) -> Columns:
    """Return the columns that tell the rows apart."""
    settings = [("settings", [row.settings for row in rows])] if any(row.settings for row in rows) else []
    return [
        *sweep_column([row.sweep for row in rows]),
        *settings,
        ("workload", [row.workload for row in rows]),
        ("agents", [str(row.agents) for row in rows]),
        ("method", [row.method for row in rows]),
    ]
