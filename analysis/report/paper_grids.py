"""The paper's tables in the paper's shape: methods by agents, our number in each cell beside the paper's."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.paper import PAPER_TABLES
from analysis.paper.paper_rendering import interval_in, number_in, signed_in
from analysis.paper.printed_numbers import Place, Series, load_paper
from analysis.paper.table_rows import PaperRow, PaperTable
from analysis.report.cells import said
from analysis.results import Results

_WORDS = {
    "agents": "agents",
    "max_anchors": "most anchors",
    "prefix_tokens": "prefix tokens",
    "reuse_rate": "reuse rate",
    "model": "paper's model",
}
_CHANGE = "accuracy \N{MINUS SIGN} dense"


@dataclass(frozen=True, slots=True)
class Number:
    """Our number in a cell, under one setting."""

    text: str
    interval: str
    """Empty if there is none."""
    settings: str
    """What tells it from our other numbers in the cell; empty if there is only one."""


@dataclass(frozen=True, slots=True)
class GridCell:
    """One cell: our numbers, or the reason why there is none, and the paper's number."""

    ours: list[Number]
    gap: str
    paper: str


@dataclass(frozen=True, slots=True)
class GridRow:
    """One metric of one series of the paper's table."""

    heads: list[str]
    """Coordinates of the series, such as workload and method, then the metric with its unit."""
    cells: list[GridCell | None]
    """None where the paper's table has no such cell."""
    repeated: int
    """Number of leading heads that are those of the row above, which a reader need not see again."""

    @property
    def new(self) -> bool:
        """Whether the row begins another series."""
        return self.repeated < len(self.heads) - 1


@dataclass(frozen=True, slots=True)
class Grid:
    """Cells along one axis of the paper's table."""

    names: list[str]
    """Names of the columns of ``GridRow.heads``."""
    axis: str
    points: list[str]
    rows: list[GridRow]


@dataclass(frozen=True, slots=True)
class PaperSection:
    """A table of the paper with the results of one of our models."""

    number: str
    title: str
    theirs: str
    ours: str
    """Our model; empty if nothing was run."""
    unlike: str
    """How our cells differ from the paper's besides the method's implementation; empty if they do not."""
    settings: str
    grids: list[Grid]
    notes: tuple[str, ...]


def paper_sections(results: Results) -> list[PaperSection]:
    """Return every table of the paper in its order: once for each of our models with a number in it, else with gaps."""
    sections = []
    for make in PAPER_TABLES.values():
        tables = make(results)
        sections += [_section(table) for table in [one for one in tables if one.measured] or tables[:1]]
    return sections


def _section(table: PaperTable) -> PaperSection:
    by_axis: defaultdict[str, list[PaperRow]] = defaultdict(list)
    for row in table.rows:
        by_axis[_series_of(table.number, row.place).axis].append(row)
    theirs = ", ".join(name.rpartition("/")[2] for name in table.paper_models)
    settings = said({key: value for key, value in table.common.items() if value is not None})
    grids = [_grid(axis, rows) for axis, rows in by_axis.items()]
    return PaperSection(
        table.number, table.title, theirs, table.model or "", _unlike(table), settings, grids, table.notes
    )


def _unlike(table: PaperTable) -> str:
    if table.model is None:
        return ""
    same = any(table.model.partition("@")[0] == name for name in table.paper_models)
    task = f"another task: generated recall stories in place of {table.stand_in_for}" if table.stand_in_for else ""
    return " and on ".join(part for part in ("" if same else "another model", task) if part)


def _series_of(number: str, place: Place) -> Series:
    """Return the series of a cell: the one with its axis whose other coordinates the cell has, too."""
    fitting = [one for one in load_paper().tables[number].series if place.keys() == {*one.at, one.axis}]
    return next(one for one in fitting if place[one.axis] in one.points)


def _grid(axis: str, rows: Sequence[PaperRow]) -> Grid:
    names = [key for key in rows[0].place if key != axis]
    points = list(dict.fromkeys(row.place[axis] for row in rows))
    lines: dict[tuple[str, ...], dict[object, list[PaperRow]]] = {}
    changes: dict[tuple[str, ...], dict[object, list[PaperRow]]] = {}
    order: dict[tuple[str, ...], None] = {}
    above: tuple[str, ...] = ()
    for row in rows:
        series = tuple(str(row.place[name]) for name in names)
        own = (*series, f"{_word(row.metric)}, {row.unit}")
        lines.setdefault(own, {}).setdefault(row.place[axis], []).append(row)
        order.setdefault(own)
        if row.change is not None and (row.change.ours is not None or row.change.paper is not None):
            other = (*series, f"{_CHANGE}, points")
            changes.setdefault(other, {}).setdefault(row.place[axis], []).append(row)
            order.setdefault(other)
    made = []
    for key in order:
        if key in lines:
            cells = [_cell(lines[key].get(point)) for point in points]
        else:
            cells = [_change(changes[key].get(point)) for point in points]
        if not any(cell.ours or cell.paper for cell in cells if cell):
            continue
        alike = (index for index in range(len(key)) if key[: index + 1] != above[: index + 1])
        made.append(GridRow(list(key), cells, next(alike, len(key))))
        above = key
    return Grid([*map(_word, names), "metric"], _word(axis), [str(point) for point in points], made)


def _word(name: str) -> str:
    return _WORDS.get(name, name.replace("_", " "))


def _cell(rows: Sequence[PaperRow] | None) -> GridCell | None:
    if rows is None:
        return None
    first = rows[0]
    ours = [
        Number(number_in(row.ours.value, row.unit), _between(interval_in(row.ours, row.unit)), row.settings)
        for row in rows
        if row.ours is not None
    ]
    return GridCell(
        ours, "" if ours else first.gap or "", "" if first.paper is None else number_in(first.paper, first.unit)
    )


def _change(rows: Sequence[PaperRow] | None) -> GridCell | None:
    if rows is None:
        return None
    changes = [(row.change, row.settings) for row in rows if row.change is not None]
    ours = [
        Number(signed_in(change.ours.value, "%"), _between(interval_in(change.ours, "%")), settings)
        for change, settings in changes
        if change.ours is not None
    ]
    paper = changes[0][0].paper
    return GridCell(ours, "" if ours else rows[0].gap or "no dense arm", "" if paper is None else signed_in(paper, "%"))


def _between(interval: str) -> str:
    return "" if interval == "-" else interval
