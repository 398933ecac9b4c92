"""Format tables and numbers for a terminal; unknown values are dashes."""

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

if TYPE_CHECKING:  # its scipy takes a second to import, and `kvcomm show` does not need it
    from analysis.stats import Estimate

Columns = list[tuple[str, list[str]]]
"""Names of columns, each with the texts of its rows."""

_SHORTEST = 8
"""Characters below which a column that names a row is not narrowed."""


class ColumnTable(Table):
    """A table of named columns, which a narrow terminal shows in parts.

    Each part repeats the columns that name a row, and what these have in common is said once above.
    """

    def __init__(self, columns: Columns, left: Collection[str], widths: Sequence[int | None] = ()) -> None:
        """``widths`` fixes the width of columns; without one, or with None, it is that of the longest text."""
        super().__init__(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        self._source, self._left = columns, left
        height = max(name.count("\n") for name, _ in columns)
        for (name, _), width in zip(columns, widths or [None] * len(columns), strict=True):
            foot_aligned = "\n" * (height - name.count("\n")) + name
            if name in left:
                self.add_column(foot_aligned, overflow="fold", width=width)
            else:
                self.add_column(foot_aligned, justify="right", no_wrap=True, width=width)
        for cells in zip(*(values for _, values in columns), strict=True):
            self.add_row(*cells)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render the whole table if it fits, else its parts one below the other."""
        if _width_of(self._source) <= options.max_width:
            yield from super().__rich_console__(console, options)
            return
        columns, said_once = _without_repetition(self._source, self._left)
        if said_once:
            yield f"all rows: {said_once}"
        for index, part in enumerate(_parts(columns, self._left, options.max_width)):
            if index:
                yield ""
            yield from Table.__rich_console__(part, console, options)


def _without_repetition(columns: Columns, left: Collection[str]) -> tuple[Columns, str]:
    """Take out of the columns that name the rows what is the same in all rows. Return the columns, and what it was.

    A name like ``recall, 4 agents, dense`` is a list: its first entries can be the same in all rows, too.
    """
    n_names = _number_of_names(columns, left)
    if len(columns[0][1]) < 2:
        return columns, ""
    same = [index for index in range(n_names) if len(set(columns[index][1])) == 1]
    same = same[:-1] if len(same) == n_names else same  # one has to stay
    said = [f"{' '.join(columns[i][0].split())} {columns[i][1][0]}" for i in same]
    kept: Columns = [column for index, column in enumerate(columns) if index not in same]
    for index, (name, values) in enumerate(kept[: n_names - len(same)]):
        entries = [value.split(", ") for value in values if value]  # an empty one is the same as above
        n_common = 0
        while n_common < min(map(len, entries)) - 1 and len({one[n_common] for one in entries}) == 1:
            n_common += 1
        if name in left and n_common:
            said.append(", ".join(entries[0][:n_common]))
            kept[index] = (name, [", ".join(value.split(", ")[n_common:]) for value in values])
    return kept, ", ".join(said)


def _number_of_names(columns: Columns, left: Collection[str]) -> int:
    """Return how many columns name a row: all up to the last left one, and at least one."""
    return max((index for index, (name, _) in enumerate(columns) if name in left), default=0) + 1


def _parts(columns: Columns, left: Collection[str], width: int) -> list[ColumnTable]:
    """Divide the columns behind those that name a row, so that each part fits into ``width`` characters.

    The names are as wide as they can be without another part. A word of a name breaks only if it has to.
    """
    longest = [_longest(column, str.splitlines) for column in columns]
    n_names = _number_of_names(columns, left)
    widths = [_longest(one, str.split) if one[0] in left else longest[i] for i, one in enumerate(columns[:n_names])]
    # A column that is nearly as wide as the terminal is cut off rather than the names broken into letters.
    room = max(width - max(longest[n_names:], default=0) - n_names, width // 3)
    while sum(widths) > room and max(widths) > _SHORTEST:
        widths[widths.index(max(widths))] -= 1

    def divided(names_width: int) -> list[list[int]]:
        parts: list[list[int]] = [[]]
        for index in range(n_names, len(columns)):
            needed = sum(longest[i] + 1 for i in [*parts[-1], index]) - 1
            if parts[-1] and needed > width - names_width - n_names:
                parts.append([])
            parts[-1].append(index)
        return parts

    fewest = len(divided(sum(widths)))
    for index in sorted(range(n_names), key=lambda i: longest[i] - widths[i]):
        while widths[index] < longest[index] and sum(widths) + 1 <= room and len(divided(sum(widths) + 1)) == fewest:
            widths[index] += 1
    most = width - sum(widths) - n_names
    return [
        ColumnTable(
            [columns[i] for i in (*range(n_names), *part)], left, [*widths, *(min(longest[i], most) for i in part)]
        )
        for part in divided(sum(widths))
    ]


def _width_of(columns: Columns) -> int:
    return sum(_longest(column, str.splitlines) + 1 for column in columns) - 1


def _longest(column: tuple[str, list[str]], pieces: Callable[[str], list[str]]) -> int:
    """Return the characters of the longest piece of a column's name and texts."""
    name, values = column
    return max((cell_len(piece) for text in (name, *values) for piece in pieces(text)), default=0)


def column_table(columns: Columns, *, left: Collection[str] = ()) -> Table:
    """Build a table of named columns. Names may have several lines and are aligned to the bottom of the header.

    The columns in ``left`` are left-aligned and may wrap; the others are right-aligned and do not wrap.
    """
    return ColumnTable(columns, left)


def row_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: Collection[str]) -> Table:
    """Build the same table from its rows."""
    return column_table([(name, [row[index] for row in rows]) for index, name in enumerate(head)], left=left)


def sweep_column(sweeps: Sequence[str]) -> Columns:
    """Return the column that names each row's sweep; none if all rows are of one sweep."""
    return [("sweep", list(sweeps))] if len(set(sweeps)) > 1 else []


def known(columns: Columns) -> Columns:
    """Leave out the columns that no row has a value for."""
    return [column for column in columns if set(column[1]) != {"-"}]


def percent(rate: float | None, digits: int = 1) -> str:
    """Format a rate, such as 0.123, as ``12.3%``."""
    return "-" if rate is None else f"{100 * rate:.{digits}f}%"


def decimal(value: float | None, digits: int = 3) -> str:
    """Format with a fixed number of decimals."""
    return "-" if value is None else f"{value:.{digits}f}"


def milliseconds(seconds: float | None, digits: int = 1) -> str:
    """Format seconds as milliseconds, without the unit."""
    return "-" if seconds is None else f"{1000 * seconds:.{digits}f}"


def times(ratio: float | None) -> str:
    """Format a ratio as ``1.23x``."""
    return "-" if ratio is None else f"{ratio:.2f}x"


def value_of(estimate: "Estimate | None", digits: int, sign: str = "") -> str:
    """Format the value with a fixed number of decimals; ``sign`` is ``+`` for changes."""
    return "-" if estimate is None else f"{estimate.value:{sign}.{digits}f}"


def interval_of(estimate: "Estimate | None", digits: int, sign: str = "") -> str:
    """Format the interval as ``0.1 to 0.3``, or as a dash if there is none."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return "-"
    return f"{estimate.low:{sign}.{digits}f} to {estimate.high:{sign}.{digits}f}"


def count_of(estimate: "Estimate | None") -> str:
    """Format the number of observations."""
    return "-" if estimate is None else str(estimate.n)
