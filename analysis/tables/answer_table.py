"""The table of answers: how many are correct, and how often a method agrees with the dense arm.

The decision agent gives the final answer to an item. The answers of all agents are graded as well, as if they were
final, so that reuse turns can be compared with dense turns.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from rich.table import Table

from analysis import stats
from analysis.arms import Arm, reusing
from analysis.measures import accuracy, graded_pairs
from analysis.results import Results
from analysis.stats import Estimate
from analysis.tables.rendering import column_table, decimal, percent, sweep_column
from analysis.tables.sweep_table import graded_cells
from harness.results.rates import is_correct


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRow:
    """One cell of a sweep; rates are from 0 to 1. A field is None if there are no data for it."""

    sweep: str
    cell: str
    accuracy: Estimate | None
    """Accuracy of the final answers."""
    unparsable: float | None
    """Share of final answers that could not be parsed."""
    same_outcome: Estimate | None
    """Share of items on which the dense arm's final answer got the same grade."""
    same_answer: Estimate | None
    """Judge consistency: share of items on which the dense arm's decision agent gave the same answer. An item counts
    if an answer could be parsed in at least one arm."""
    noise: bool
    """Whether these two are noise: the row is dense itself, beside dense in batches of another size."""
    reuse_turns: Estimate | None
    """Share of correct answers, over all agents' turns that reused anything; see ``arms.reusing``."""
    dense_turns: Estimate | None
    """Share of correct answers, over this arm's other turns."""


def answer_rows(results: Results) -> list[AnswerRow]:
    """Return the rows of all sweeps in the order of ``cell_rows``; cells without answers have no row."""
    return [_row(sweep, str(cell), arm) for sweep, cell, arm in graded_cells(results) if len(arm.samples)]


def _row(sweep: str, cell: str, arm: Arm) -> AnswerRow:
    is_dense = bool((arm.trials["method"] == "dense").all())
    pairs = graded_pairs(arm.twin_pairs() if is_dense else arm.paired_samples(), "_dense")
    outcomes = arm.samples["outcome"].dropna()
    readable = pairs[pairs["extracted"].notna() | pairs["extracted_dense"].notna()]
    same = (readable["extracted"] == readable["extracted_dense"]).fillna(False)
    right = accuracy(arm)
    graded = arm.turns[arm.turns["outcome"].notna()]
    return AnswerRow(
        sweep=sweep,
        cell=cell,
        accuracy=None if right is None else right.scaled(0.01),
        unparsable=float((outcomes == "unparsable").mean()) if len(outcomes) else None,
        same_outcome=_share(pairs, pairs["outcome"] == pairs["outcome_dense"]),
        same_answer=_share(readable, same),
        noise=is_dense and not pairs.empty,
        reuse_turns=_right(graded[reusing(graded)]),
        dense_turns=_right(graded[~reusing(graded)]),
    )


def _right(turns: pd.DataFrame) -> Estimate | None:
    return _share(turns, turns["outcome"].map(is_correct))


def _share(rows: pd.DataFrame, holds: "pd.Series[bool]") -> Estimate | None:
    return None if rows.empty else stats.mean(holds, rows["item"])


def render_answers(rows: Sequence[AnswerRow]) -> Table:
    """Render the rows as a terminal table; unknown values are dashes. Intervals are at 95 %."""
    columns = [
        *sweep_column([row.sweep for row in rows]),
        ("cell", [row.cell for row in rows]),
        ("accuracy", [_percent(row.accuracy) for row in rows]),
        ("interval", [_interval(row.accuracy) for row in rows]),
        ("not\nreadable", [percent(row.unparsable) for row in rows]),
        ("graded\nas dense", [_percent(row.same_outcome) for row in rows]),
        ("answer\nof dense", [_percent(row.same_answer) for row in rows]),
        ("right in\nreuse turns", [_percent(row.reuse_turns) for row in rows]),
        ("right in\ndense turns", [_percent(row.dense_turns) for row in rows]),
    ]
    return column_table(columns, left=("sweep", "cell"))


def _percent(estimate: Estimate | None) -> str:
    return percent(None if estimate is None else estimate.value)


def _interval(estimate: Estimate | None) -> str:
    if estimate is None or estimate.low is None or estimate.high is None:
        return "-"
    return f"{decimal(100 * estimate.low, 0)}-{decimal(100 * estimate.high, 0)}"
