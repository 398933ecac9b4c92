"""The table of promises: the share of reused turns whose KL is above ``max_kl``, beside what was promised.

``calibrated`` promises that it is at most ``alpha`` in each trial. The KL is that of the checks of fidelity
(``kl_next_token``), which the method does not see. Other criteria that judge whole turns promise nothing; their share
stands beside it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from rich.console import Group
from rich.table import Table

from analysis import stats
from analysis.arms import Arm, reusing
from analysis.results import Results
from analysis.stats import Estimate
from analysis.tables.rendering import column_table, count_of, decimal, interval_of, percent, sweep_column
from analysis.tables.shown import Shown
from analysis.tables.sweep_table import graded_cells

JUDGE_TURNS = ("calibrated", "gated", "oracle")


@dataclass(frozen=True, slots=True, kw_only=True)
class PromiseRow:
    """One cell with a criterion for whole turns; shares are from 0 to 1."""

    sweep: str
    cell: str
    criterion: str
    max_kl: float
    """Nats."""
    above: Estimate
    """Share of the checked turns that reused whose KL is above ``max_kl``; its clusters are items."""
    alpha: float | None
    """The largest share that was promised; None without a promise."""
    trials: int
    """Trials with checked turns that reused."""
    kept: int | None
    """Trials whose own share is at most ``alpha``; None without a promise."""
    reuse_once_begun: float
    """Share of turns that reused, from the first item of a trial on of which any turn did."""


def show_promises(results: Results) -> Shown:
    """Return the table of promises; empty if no turn that reused by such a criterion was compared with dense."""
    rows = promise_rows(results)
    caption = "reused turns whose KL to dense is above max_kl, with 95 % intervals, and the share that was promised:"
    return Shown("promises", rows, [Group(caption, render_promises(rows))] if rows else [])


def promise_rows(results: Results) -> list[PromiseRow]:
    """Return the rows of all sweeps in the order of ``cell_rows``."""
    found = (_row(sweep, str(cell), arm) for sweep, cell, arm in graded_cells(results))
    return [row for row in found if row is not None]


def _row(sweep: str, cell: str, arm: Arm) -> PromiseRow | None:
    spec = json.loads(arm.trials["spec_json"].iloc[0]).get("kvcomm") or {}
    criterion = spec.get("criterion")
    checked = arm.reusing.dropna(subset=["kl_next_token"])
    if criterion not in JUDGE_TURNS or checked.empty:
        return None
    max_kl, alpha = float(spec["max_kl"]), float(spec["alpha"]) if criterion == "calibrated" else None
    is_above = (checked["kl_next_token"] > max_kl).astype(float)
    of_trials = is_above.groupby(checked["trial_id"]).mean()
    return PromiseRow(
        sweep=sweep,
        cell=cell,
        criterion=criterion,
        max_kl=max_kl,
        above=stats.mean(is_above, checked["item"]),
        alpha=alpha,
        trials=len(of_trials),
        kept=None if alpha is None else int((of_trials <= alpha).sum()),
        reuse_once_begun=_reuse_once_begun(arm.turns),
    )


def _reuse_once_begun(turns: pd.DataFrame) -> float:
    reused = reusing(turns)
    first = turns["sample_index"].where(reused).groupby(turns["trial_id"]).transform("min")
    return float(reused[turns["sample_index"] >= first].mean())


def render_promises(rows: Sequence[PromiseRow]) -> Table:
    """Render the rows as a terminal table; unknown values are dashes."""
    columns = [
        *sweep_column([row.sweep for row in rows]),
        ("cell", [row.cell for row in rows]),
        ("max\nKL", [f"{row.max_kl:g}" for row in rows]),
        ("above", [percent(row.above.value) for row in rows]),
        ("95 %\ninterval", [interval_of(row.above, 3) for row in rows]),
        ("turns", [count_of(row.above) for row in rows]),
        ("at most", ["-" if row.alpha is None else percent(row.alpha) for row in rows]),
        ("kept in\ntrials", ["-" if row.kept is None else f"{row.kept} of {row.trials}" for row in rows]),
        ("reuse\nonce begun", [decimal(100 * row.reuse_once_begun, 1) + "%" for row in rows]),
    ]
    return column_table(columns, left=("sweep", "cell"))
