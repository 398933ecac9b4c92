"""Format tables and numbers for a terminal; unknown values are dashes."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:  # its scipy takes a second to import, and `kvcomm show` does not need it
    from analysis.stats import Estimate

Columns = list[tuple[str, list[str]]]
"""Names of columns, each with the texts of its rows."""


def column_table(columns: Columns, *, left: Collection[str] = ()) -> Table:
    """Build a table of named columns. Names may have several lines and are aligned to the bottom of the header.

    The columns in ``left`` are left-aligned and may wrap; the others are right-aligned and do not wrap.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    height = max(name.count("\n") for name, _ in columns)
    for name, _ in columns:
        foot_aligned = "\n" * (height - name.count("\n")) + name
        if name in left:
            table.add_column(foot_aligned, overflow="fold")
        else:
            table.add_column(foot_aligned, justify="right", no_wrap=True)
    for cells in zip(*(values for _, values in columns), strict=True):
        table.add_row(*cells)
    return table


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
