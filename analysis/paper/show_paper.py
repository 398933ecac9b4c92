"""``kvcomm show --paper``, in its own module because importing scipy takes a second."""

from analysis.paper import PAPER_TABLES
from analysis.paper.paper_rendering import render_paper_table
from analysis.results import Results
from analysis.tables.shown import Shown, Tables


def make_paper_tables(results: Results, number: str) -> Tables:
    """Build the paper's table with that number (``1``, ``A.2``). Raises ``ValueError`` if there is none."""
    known = {name.lower(): name for name in PAPER_TABLES}
    if number.lower() not in known:
        raise ValueError(f"{number}; allowed: {', '.join(PAPER_TABLES)}")
    tables = PAPER_TABLES[known[number.lower()]](results)
    return Tables((Shown("paper_tables", tables, [render_paper_table(table) for table in tables]),))
