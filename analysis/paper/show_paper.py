"""``kvcomm show --paper``, in its own module because importing scipy takes a second."""

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from analysis.paper import PAPER_TABLES
from analysis.paper.paper_rendering import render_paper_table
from analysis.paper.table_rows import PaperTable
from analysis.results import Results
from analysis.tables.rendering import print_apart


@dataclass(frozen=True, slots=True)
class PaperTables:
    """One of the paper's tables, once for each of our models."""

    tables: list[PaperTable]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"paper_tables": [asdict(table) for table in self.tables]}

    def print(self, console: Console) -> None:
        """Print the tables, separated by blank lines."""
        print_apart([render_paper_table(table) for table in self.tables], console)


def make_paper_tables(results: Results, number: str) -> PaperTables:
    """Build the paper's table with that number (``1``, ``A.2``). Raises ``ValueError`` if there is none."""
    known = {name.lower(): name for name in PAPER_TABLES}
    if number.lower() not in known:
        raise ValueError(f"{number}; allowed: {', '.join(PAPER_TABLES)}")
    return PaperTables(PAPER_TABLES[known[number.lower()]](results))
