"""The table of reasons: the share of an arm's turns that reused every segment, and why the others did not.

It covers the methods that have pools. The shares of a row add up to 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis.arms import Arm
from analysis.results import Results, plain_values
from analysis.tables.rendering import column_table, percent, sweep_column
from analysis.tables.shown import Shown
from analysis.tables.sweep_table import graded_cells
from harness.results.no_reuse import ACCOUNTS, REUSED, Account, count_accounts
from harness.results.rates import turn_reuse_rate

NOT_HELD = "these results do not hold why turns did not reuse: they are older than identity version 3"


@dataclass(frozen=True, slots=True)
class ReasonShare:
    """One reason, for one kind of placeholder."""

    reason: str
    """``cold``, ``too_long``, ``refused`` or ``slot_unmet``; ``unrecorded`` for older turns among others."""
    placeholder: str
    """``question``, ``answer``, ``tool`` or ``history``; empty if the turn does not say."""
    share: float
    """Turns with this reason over turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoReuseRow:
    """One cell whose method has pools."""

    sweep: str
    cell: str
    n_turns: int
    reused: float | None
    """Share of turns that reused every segment."""
    reasons: tuple[ReasonShare, ...] | None
    """The shares of the other turns; None if the results do not hold their reasons."""


class _Turn(NamedTuple):
    mode: str
    anchors_in_pool: int | None
    no_reuse_reason: str | None
    no_reuse_placeholder: str | None


def show_no_reuse(results: Results) -> Shown:
    """Return the table of reasons, or one line if the results do not hold them."""
    rows = no_reuse_rows(results)
    held = any(row.reasons is not None for row in rows)
    tables: list[RenderableType] = [Text(NOT_HELD)] if rows and not held else []
    if held:
        tables = [Group("turns that reused every segment, and why the others did not:", render_no_reuse(rows))]
    return Shown("no_reuse", rows, tables)


def no_reuse_rows(results: Results) -> list[NoReuseRow]:
    """Return the rows of all sweeps in the order of ``cell_rows``; only cells with turns that could use pools."""
    return [
        _row(sweep, str(cell), arm)
        for sweep, cell, arm in graded_cells(results)
        if arm.turns["anchors_in_pool"].notna().any()
    ]


def accounts_of(arm: Arm) -> dict[Account, int] | None:
    """Count the arm's turns by reason; None if its method has no pools, or the results do not hold reasons."""
    columns = (plain_values(arm.turns[name]) for name in _Turn._fields)
    return count_accounts(_Turn(*values) for values in zip(*columns, strict=True))


def _row(sweep: str, cell: str, arm: Arm) -> NoReuseRow:
    counts, turns = accounts_of(arm), arm.turns[arm.turns["anchors_in_pool"].notna()]
    shares = {account: count / len(turns) for account, count in (counts or {}).items()}
    reused = shares.pop(REUSED, None)
    return NoReuseRow(
        sweep=sweep,
        cell=cell,
        n_turns=len(turns),
        reused=turn_reuse_rate(turns["mode"]) if reused is None else reused,
        reasons=None if counts is None else tuple(ReasonShare(*account, share) for account, share in shares.items()),
    )


def render_no_reuse(rows: Sequence[NoReuseRow]) -> Table:
    """Render one column per reason that occurs. A row of dashes does not hold its reasons."""
    shares = [{(one.reason, one.placeholder): one.share for one in row.reasons or ()} for row in rows]
    seen = {account for of_row in shares for account in of_row}
    columns = [
        *sweep_column([row.sweep for row in rows]),
        ("cell", [row.cell for row in rows]),
        ("turns", [str(row.n_turns) for row in rows]),
        ("reused", [percent(row.reused) for row in rows]),
    ]
    for account in sorted(seen, key=ACCOUNTS.index):
        texts = [
            percent(None if row.reasons is None else of_row.get(account, 0.0))
            for row, of_row in zip(rows, shares, strict=True)
        ]
        columns.append((name_of(account, "\n"), texts))
    return column_table(columns, left=("sweep", "cell"))


def name_of(account: Account, between: str = ": ") -> str:
    """Return a reason in words: ``too long: question``."""
    reason, kind = account
    return between.join(filter(None, (reason.replace("_", " "), kind)))
