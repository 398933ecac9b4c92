"""The tables of judges: how often an arm picks what dense picks, beside what chance and a preferred letter would give.

``analysis/judging.py`` defines the measures. The second table needs trials that differ in ``workload.shuffle`` alone.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.console import Group

from analysis import judging, measures
from analysis.arms import Arm
from analysis.results import Results
from analysis.stats import Estimate
from analysis.tables.rendering import column_table, decimal, interval_of, percent, sweep_column, value_of
from analysis.tables.shown import Shown
from analysis.tables.sweep_table import graded_cells
from harness.cells import Cell

_SHUFFLE = re.compile(r" shuffle=\d+")
_NAMES = ("sweep", "cell")


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeRow:
    """The picks of one arm; shares are from 0 to 1. A field is None if there are no data for it, as for dense beside
    itself."""

    sweep: str
    cell: str
    n_picks: int
    """Number of picks."""
    accuracy: Estimate | None
    """Share of picks of the right candidate."""
    letters: dict[str, float]
    """Share of each letter among the picks."""
    spelled_out: Estimate | None
    """Share of picks with which the judge's text begins."""
    consistency: Estimate | None
    """Share of items on which dense picks the same from the same prompt."""
    by_chance: float | None
    """The share expected by chance."""
    kappa: Estimate | None
    """Cohen's kappa of the two arms' picks."""
    balanced_consistency: Estimate | None
    """The consistency of picks from which dense's mean preference for each letter is taken."""
    balanced_kappa: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShuffleRow:
    """How much the picks of one arm depend on the order of the candidates."""

    sweep: str
    cell: str
    same_candidate: Estimate
    """Share of items, from 0 to 1, of which the judge picks the same candidate in another order."""


def judge_rows(results: Results) -> list[JudgeRow]:
    """Return the rows of all sweeps with judges, in the order of ``cell_rows``."""
    return [_row(sweep, cell, arm) for sweep, cell, arm in graded_cells(results) if len(judging.judged(arm.turns)) > 0]


def _row(sweep: str, cell: Cell, arm: Arm) -> JudgeRow:
    own, beside, right = judging.judged(arm.turns), judging.decisions(arm), measures.accuracy(arm)
    return JudgeRow(
        sweep=sweep,
        cell=str(cell),
        n_picks=len(own),
        accuracy=None if right is None else right.scaled(0.01),
        letters=judging.letter_shares(own["pick"]),
        spelled_out=judging.spelled_out(arm.turns),
        consistency=judging.consistency(beside),
        by_chance=judging.by_chance(beside),
        kappa=judging.kappa(beside),
        balanced_consistency=judging.consistency(beside, "balanced"),
        balanced_kappa=judging.kappa(beside, "balanced"),
    )


def shuffle_rows(results: Results) -> list[ShuffleRow]:
    """Return a row for each arm that judged the same candidates in several orders."""
    groups: dict[tuple[str, Cell], list[Arm]] = {}
    for sweep, cell, arm in graded_cells(results):
        groups.setdefault((sweep, replace(cell, workload=_SHUFFLE.sub("", cell.workload))), []).append(arm)
    rows = []
    for (sweep, cell), arms in groups.items():
        same = judging.same_candidate(arms) if len(arms) > 1 else None
        if same is not None:
            rows.append(ShuffleRow(sweep=sweep, cell=str(cell), same_candidate=same))
    return rows


def show_judges(results: Results) -> list[Shown]:
    """Return the tables of judges; both are empty if no trial has one."""
    rows, shuffled = judge_rows(results), shuffle_rows(results)
    return [
        Shown("judges", rows, [render_judges(rows)] if rows else []),
        Shown("judges_shuffled", shuffled, [_render_shuffled(shuffled)] if shuffled else []),
    ]


def render_judges(rows: Sequence[JudgeRow]) -> Group:
    """Render the picks of each arm beside dense's; unknown values are dashes."""
    columns = [
        *sweep_column([row.sweep for row in rows]),
        ("cell", [row.cell for row in rows]),
        ("picks", [str(row.n_picks) for row in rows]),
        ("right", [_percent(row.accuracy) for row in rows]),
        ("of each\nletter", [_letters(row.letters) for row in rows]),
        ("begins\nwith it", [_percent(row.spelled_out) for row in rows]),
        ("same as\ndense", [_percent(row.consistency) for row in rows]),
        ("interval", [_interval(row.consistency) for row in rows]),
        ("by\nchance", [percent(row.by_chance) for row in rows]),
        ("kappa", [value_of(row.kappa, 2) for row in rows]),
        ("interval", [interval_of(row.kappa, 2) for row in rows]),
        ("balanced:\nsame", [_percent(row.balanced_consistency) for row in rows]),
        ("interval", [_interval(row.balanced_consistency) for row in rows]),
        ("kappa", [value_of(row.balanced_kappa, 2) for row in rows]),
    ]
    return Group(
        "judges: picks from dense's prompts; balanced: without dense's preference for letters; 95 % intervals:",
        column_table(columns, left=_NAMES),
    )


def _render_shuffled(rows: Sequence[ShuffleRow]) -> Group:
    columns = [
        *sweep_column([row.sweep for row in rows]),
        ("cell", [row.cell for row in rows]),
        ("same\ncandidate", [_percent(row.same_candidate) for row in rows]),
        ("interval", [_interval(row.same_candidate) for row in rows]),
        ("pairs", [str(row.same_candidate.n) for row in rows]),
    ]
    return Group("judges: the same candidates in another order:", column_table(columns, left=_NAMES))


def _letters(shares: dict[str, float]) -> str:
    return " ".join(f"{letter} {100 * share:.0f}%" for letter, share in shares.items())


def _percent(estimate: Estimate | None) -> str:
    return percent(None if estimate is None else estimate.value)


def _interval(estimate: Estimate | None) -> str:
    if estimate is None or estimate.low is None or estimate.high is None:
        return "-"
    return f"{decimal(100 * estimate.low, 0)}-{decimal(100 * estimate.high, 0)}"
