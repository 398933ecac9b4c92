"""Tail quantiles of the TTFT, which medians hide, over all turns and over reusing turns."""

from rich.table import Table

from analysis.arms import arms_of
from analysis.results import Results
from analysis.stats import tails
from analysis.tables.rendering import decimal, row_table


def render_tails(results: Results) -> Table | None:
    """Render the tails of one sweep, or return None if it has no turns. Turns without reuse count only in ``all``."""
    rows = []
    for cell, arm in arms_of(results).by_cell(results.trials).items():
        for name, turns in (("all", arm.turns), ("reusing", arm.reusing)):
            if not turns.empty:
                found = tails(1000 * turns["ttft_s"])
                numbers = (decimal(value, 1) for value in (found.p50, found.p90, found.p99))
                rows.append((str(cell), name, str(found.n), *numbers))
    if not rows:
        return None
    return row_table(("cell", "turns", "n", "p50 ms", "p90 ms", "p99 ms"), rows, left=("cell", "turns"))
