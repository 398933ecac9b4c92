"""The table of scores: how well the numbers by which a criterion judges a turn predict the turn's KL to dense.

Each number is Spearman's correlation over the turns of an arm that have the score and were compared with dense. Only
turns that reused are compared, so the turns that the criterion refused are missing: a criterion that refuses many shows
a part of its range alone. ``gamma`` 1 or the criterion ``always`` show all of it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group
from rich.table import Table

from analysis import stats
from analysis.arms import Arm
from analysis.results import Results
from analysis.stats import Estimate
from analysis.tables.rendering import column_table, count_of, interval_of, sweep_column, value_of
from analysis.tables.shown import Shown
from analysis.tables.sweep_table import graded_cells

SCORES = {"entropy_ratio": "entropy ratio", "nearest_distance": "nearest distance"}
"""Names of the scores by their column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """One score of one cell. A correlation is None if fewer than three such turns were compared, or all are equal."""

    sweep: str
    cell: str
    criterion: str
    score: str
    """Column of ``turns``."""
    with_kl_next_token: Estimate | None
    """Spearman's correlation with KL of the next token; its n counts turns, and its clusters are items."""
    with_kl_continuation: Estimate | None
    """The same with KL over the first tokens of dense's answer."""


def show_scores(results: Results) -> Shown:
    """Return the table of scores; empty if no turn with a score was compared with dense."""
    rows = score_rows(results)
    caption = "Spearman's correlation of a criterion's score with a turn's KL to dense, with 95 % intervals:"
    return Shown("scores", rows, [Group(caption, render_scores(rows))] if rows else [])


def score_rows(results: Results) -> list[ScoreRow]:
    """Return the rows of all sweeps in the order of ``cell_rows``."""
    return [row for sweep, cell, arm in graded_cells(results) for row in _rows(sweep, str(cell), arm)]


def _rows(sweep: str, cell: str, arm: Arm) -> list[ScoreRow]:
    found = []
    for score in SCORES:
        next_token, continuation = (_correlation(arm, score, kl) for kl in ("kl_next_token", "kl_continuation"))
        if next_token is not None or continuation is not None:
            found.append(
                ScoreRow(
                    sweep=sweep,
                    cell=cell,
                    criterion=_criterion(arm),
                    score=score,
                    with_kl_next_token=next_token,
                    with_kl_continuation=continuation,
                )
            )
    return found


def _correlation(arm: Arm, score: str, kl: str) -> Estimate | None:
    both = arm.turns[score].notna() & arm.turns[kl].notna()
    if both.sum() < _FEWEST:
        return None
    known = arm.turns[both]
    return stats.spearman(known[score], known[kl], known["item"])


_FEWEST = 3
"""Two turns always have a correlation of 1 or -1."""


def _criterion(arm: Arm) -> str:
    kvcomm = json.loads(arm.trials["spec_json"].iloc[0]).get("kvcomm") or {}
    return str(kvcomm.get("criterion", "-"))


def render_scores(rows: Sequence[ScoreRow]) -> Table:
    """Render the rows as a terminal table; unknown values are dashes."""
    columns = [
        *sweep_column([row.sweep for row in rows]),
        ("cell", [row.cell for row in rows]),
        ("criterion", [row.criterion for row in rows]),
        ("score", [SCORES[row.score] for row in rows]),
    ]
    for name, estimates in (
        ("KL of\nnext token", [row.with_kl_next_token for row in rows]),
        ("KL of\ncontinuation", [row.with_kl_continuation for row in rows]),
    ):
        if any(one is not None for one in estimates):
            columns += [
                (name, [value_of(one, 2, "+") for one in estimates]),
                ("95 %\ninterval", [interval_of(one, 2, "+") for one in estimates]),
                ("turns", [count_of(one) for one in estimates]),
            ]
    return column_table(columns, left=("sweep", "cell", "criterion", "score"))
