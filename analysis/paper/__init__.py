"""The paper's tables with our results: one function per table, from results to data.

A function returns one table for each of our models that ran any of its cells. Every cell of the paper has a row; the
row of a cell that was not run says so.
"""

from collections.abc import Callable

from analysis.paper.accuracy_tables import table_1, table_4, table_5, table_6, table_a2, table_a3, table_a4
from analysis.paper.cost_tables import table_2, table_3, table_a5, table_a6
from analysis.paper.table_rows import PaperTable
from analysis.results import Results

PAPER_TABLES: dict[str, Callable[[Results], list[PaperTable]]] = {
    "1": table_1,
    "2": table_2,
    "3": table_3,
    "4": table_4,
    "5": table_5,
    "6": table_6,
    "A.2": table_a2,
    "A.3": table_a3,
    "A.4": table_a4,
    "A.5": table_a5,
    "A.6": table_a6,
}
"""Functions by the paper's table number."""
