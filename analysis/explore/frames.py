"""Results as DataFrames to go on with: cells with all their measures, tables of the paper, and figures as numbers.

Numbers are plain numpy floats, unknown ones NaN. Units are in the names of columns. ``_low`` and ``_high`` are the ends
of the 95 % interval, and ``_n`` is the number of observations.
"""

from collections.abc import Sequence

import pandas as pd

from analysis.figures.all_figures import FIGURES
from analysis.paper import PAPER_TABLES
from analysis.report.cells import Row, constant, rows_of
from analysis.report.compared_arms import all_arms
from analysis.report.explorer import MEASURES, Measure
from analysis.results import Results
from analysis.stats import Estimate

_SUFFIXES = {
    "x": "",
    "ms": "_ms",
    "s": "_s",
    "%": "_percent",
    "points": "_points",
    "nats": "_nats",
    "MB": "_mb",
    "J": "_j",
}
_NAMES = ("sweep", "workload", "agents", "method", "arm", "settings", "trials")


def column_of(measure: Measure) -> str:
    """Return the name of a measure's column in ``cells_frame``."""
    return f"{measure.key}{_SUFFIXES[measure.unit]}"


def cells_frame(results: Results, *sweeps: str) -> pd.DataFrame:
    """Return a row for each cell of these sweeps, or of all: what it is, the fields that differ, and every measure.

    ``arm`` is the method with the parameters that differ. The fields are columns under the names of sweep files, such
    as ``kvcomm.gamma``. Measures are those of the report's explorer, with ``_low``, ``_high`` and ``_n``. Sweeps that
    the results do not have are left out.
    """
    rows: list[Row] = []
    for sweep in [name for name in results.sweeps if not sweeps or name in sweeps]:
        own = results.of_sweep(sweep)
        rows += rows_of(sweep, own, all_arms(own))
    fields = _differing(rows)
    frame = pd.DataFrame([_row(row, fields) for row in rows])
    numbers = [f"{column_of(measure)}{end}" for measure in MEASURES for end in ("", "_low", "_high", "_n")]
    return frame.reindex(columns=[*_NAMES, *fields, *numbers]).astype(dict.fromkeys(numbers, "float64"))


def paper_frame(results: Results, number: str) -> pd.DataFrame:
    """Return a table of the paper (``1``, ``A.2``) beside ours: a row for each of its numbers and each of our models.

    The columns of a cell's place in the paper's table come first. Raises ``KeyError`` if the paper has no such table.
    """
    rows = [
        {
            **dict(row.place),
            "model": table.model,
            "settings": row.settings,
            "metric": row.metric,
            "unit": row.unit,
            "paper": row.paper,
            **_numbers("ours", row.ours),
            "gap": row.gap,
        }
        for table in PAPER_TABLES[number](results)
        for row in table.rows
    ]
    return pd.DataFrame(rows)


def figure_frame(results: Results, name: str, sweep: str) -> pd.DataFrame:
    """Return the numbers of a figure of one sweep; the column ``figure`` tells its pictures apart.

    Raises ``KeyError`` if there is no such figure, ``NothingToDrawError`` if the results cannot fill it.
    """
    drawn = FIGURES[name].draw(results.of_sweep(sweep))
    return pd.concat([one.data.assign(figure=one.name) for one in drawn], ignore_index=True)


def _differing(rows: Sequence[Row]) -> list[str]:
    """Return the fields of methods, workloads and trials that are not the same everywhere."""
    same = constant([row.facts for row in rows])
    fields = {key for row in rows for key, value in row.facts.items() if value is not None and key not in same}
    return sorted(fields - {"agents", "method", "workload.name"})


def _row(row: Row, fields: Sequence[str]) -> dict[str, object]:
    cell = row.arm.cell
    found: dict[str, object] = {
        "sweep": row.sweep,
        "workload": cell.workload,
        "agents": cell.agents,
        "method": row.arm.method,
        "arm": cell.method,
        "settings": cell.settings,
        "trials": len(row.arm.trial_ids),
    }
    found |= {field: row.facts.get(field) for field in fields}
    for measure in MEASURES:
        found |= _numbers(column_of(measure), measure.of(row.arm))
    return found


def _numbers(name: str, estimate: Estimate | None) -> dict[str, float | int | None]:
    if estimate is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high", f"{name}_n"))
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high, f"{name}_n": estimate.n}
