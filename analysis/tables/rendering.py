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


class ColumnTable(Table):
    """A table of named columns, which a narrow terminal shows in parts.

    Each part repeats the columns that name a row. These wrap between words, never inside one.
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
        longest = [_longest(column, str.splitlines) for column in self._source]
        if sum(longest) + len(longest) - 1 <= options.max_width:
            yield from super().__rich_console__(console, options)
            return
        for index, part in enumerate(self._parts(options.max_width, longest)):
            if index:
                yield ""
            yield from Table.__rich_console__(part, console, options)

    def _parts(self, width: int, longest: Sequence[int]) -> list["ColumnTable"]:
        """Divide the columns behind the last left one, so that each part fits into ``width`` characters if it can."""
        columns = self._source
        n_names = max((index for index, (name, _) in enumerate(columns) if name in self._left), default=0) + 1
        names = range(n_names)
        shortest = [_longest(columns[i], str.split) if columns[i][0] in self._left else longest[i] for i in names]
        room = width - sum(shortest) - n_names
        parts: list[list[int]] = [[]]
        for index in range(n_names, len(columns)):
            if parts[-1] and sum(longest[i] + 1 for i in [*parts[-1], index]) - 1 > room:
                parts.append([])
            parts[-1].append(index)
        spare = room - max(sum(longest[i] + 1 for i in part) - 1 for part in parts)
        widths: list[int | None] = []
        for i in names:  # what is left over goes to the first names that can use it
            more = max(0, min(spare, longest[i] - shortest[i]))
            spare -= more
            widths.append(shortest[i] + more)
        return [
            ColumnTable([columns[i] for i in (*names, *part)], self._left, [*widths, *(longest[i] for i in part)])
            for part in parts
        ]


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
