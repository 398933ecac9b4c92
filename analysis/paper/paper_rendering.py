"""Render a table of the paper for a terminal."""

import textwrap
from collections.abc import Sequence

from rich.console import Group

from analysis.paper.table_rows import PaperRow, PaperTable
from analysis.stats import Estimate
from analysis.tables.rendering import column_table, decimal

_COUNTED = "n counts answers for accuracies and turns or repeats otherwise. No interval: fewer than five items."


def render_paper_table(table: PaperTable) -> Group:
    """Render the caption, the rows and the notes."""
    rows = table.rows
    places = list(dict.fromkeys(key for row in rows for key in row.place))
    columns = [(key, [_coordinate(row, key) for row in rows]) for key in places]
    columns += [
        ("settings", [row.settings for row in rows]),
        ("metric", [row.metric for row in rows]),
        ("unit", [row.unit for row in rows]),
        ("paper", [number_in(row.paper, row.unit) for row in rows]),
        ("ours", [row.gap or number_in(row.ours.value if row.ours else None, row.unit) for row in rows]),
        ("95 %\ninterval", [interval_in(row.ours, row.unit) for row in rows]),
        ("ours -\npaper", [signed_in(row.difference, row.unit) for row in rows]),
        ("n", ["-" if row.ours is None else str(row.ours.n) for row in rows]),
        *_changes(rows),
    ]
    left = (*places, "settings", "metric", "unit")
    columns = [column for column in columns if any(text not in ("", "-") for text in column[1])]
    head = textwrap.fill(f"Table {table.number}. {table.title}.", 100)
    theirs = ", ".join(name.rpartition("/")[2] for name in table.paper_models)
    ours = f"ours: {table.model}" if table.model else "ours: not run"
    settings = " ".join(f"{key}={value}" for key, value in table.common.items() if value is not None)
    caption = [head, f"paper: {theirs}; {ours}", *([f"all of ours: {settings}"] if settings else [])]
    if table.stand_in_for:
        caption += [
            f"recall stands in for {table.stand_in_for}: its accuracies are those of other questions;",
            "changes against dense, and reuse, can be compared",
        ]
    notes = [textwrap.fill(note, 100) for note in (*table.notes, *([_COUNTED] if table.measured else []))]
    return Group(*caption, column_table(columns, left=left), *notes)


def _changes(rows: Sequence[PaperRow]) -> list[tuple[str, list[str]]]:
    """Return the columns for the change of accuracy against dense with the same model."""
    changes = [row.change for row in rows]
    return [
        ("paper -\ndense", [signed_in(change.paper if change else None, "%") for change in changes]),
        (
            "ours -\ndense",
            [signed_in(change.ours.value if change and change.ours else None, "%") for change in changes],
        ),
        ("95 %\ninterval ", [interval_in(change.ours if change else None, "%") for change in changes]),
        ("p", [decimal(change.p_value if change else None, 3) for change in changes]),
    ]


def _coordinate(row: PaperRow, key: str) -> str:
    return str(row.place.get(key, ""))


def interval_in(estimate: Estimate | None, unit: str) -> str:
    """Return the interval of a number in one of the tables' units, or a dash."""
    if estimate is None or estimate.low is None:
        return "-"
    return f"{number_in(estimate.low, unit)} to {number_in(estimate.high, unit)}"


def number_in(value: float | None, unit: str) -> str:
    """Return a number in one of the tables' units, without the unit; a dash if it is unknown."""
    return decimal(value, _digits(value, unit))


def signed_in(value: float | None, unit: str) -> str:
    """Return a difference with its sign."""
    return "-" if value is None else f"{value:+.{_digits(value, unit)}f}"


def _digits(value: float | None, unit: str) -> int:
    """Return the number of decimals: short times get more than long ones."""
    if unit == "%":
        return 1
    return 2 if unit != "ms" or value is None or abs(value) < 100 else 1
