"""The paper's table 6 as curves: our and its accuracy and reuse, by gamma and by maximum number of anchors."""

from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.parts.drawing import Drawn, NothingToDrawError, columns_of, error_bars, finished, panels, slug
from analysis.figures.parts.labels import shown
from analysis.figures.parts.styles import BLACK, GREY, styled
from analysis.paper.accuracy_tables import table_6
from analysis.paper.table_rows import PaperRow, PaperTable
from analysis.results import Results
from analysis.stats import Estimate

_AXES = {"gamma": "entropy threshold gamma", "max_anchors": "most anchors of a pool"}


@styled
def sensitivity(results: Results) -> list[Drawn]:
    """Draw a figure for each of our models and settings."""
    drawn = []
    for table in table_6(results):
        for settings in dict.fromkeys(row.settings for row in table.rows if row.ours is not None):
            drawn.append(_draw(table, settings))
    if not drawn:
        raise NothingToDrawError("needs gsm8k with 4 agents at several values of kvcomm.gamma or kvcomm.max_anchors")
    return drawn


@dataclass(frozen=True, slots=True)
class _Point:
    """One number of the paper and our number, on one axis."""

    axis: str
    x: float
    paper: float | None
    ours: Estimate | None


def _draw(table: PaperTable, settings: str) -> Drawn:
    """Draw accuracies, or changes against dense if ``recall`` replaces gsm8k, since its questions differ."""
    workload = "recall" if table.stand_in_for else "gsm8k"
    accuracy = "accuracy - dense (points)" if table.stand_in_for else "accuracy (%)"
    panel_of = {"accuracy": accuracy, "reuse_rate": "turns reused (%)"}
    rows = [row for row in table.rows if row.settings == settings or row.ours is None]
    figure, axes = panels(4, 1.9)
    places = [(axis, metric) for metric in panel_of for axis in _AXES]
    data = []
    for ax, (axis, metric) in zip(axes, places, strict=True):
        of_panel = [row for row in rows if axis in row.place and row.metric == metric]
        as_change = metric == "accuracy" and table.stand_in_for is not None
        points = [_point(axis, row, as_change) for row in of_panel]
        _curves(ax, points, f"ours: {table.model}, {workload}")
        ax.set_xlabel(_AXES[axis])
        ax.set_ylabel(panel_of[metric])
        data += [
            {axis: p.x, "metric": panel_of[metric], "paper": p.paper, **(columns_of("ours", p.ours) if p.ours else {})}
            for p in points
        ]
    name, title = (
        slug(f"sensitivity {table.model} {workload} {settings}"),
        ", ".join(filter(None, ("4 agents", settings))),
    )
    return finished(name, pd.DataFrame(data), figure, title)


def _point(axis: str, row: PaperRow, as_change: bool) -> _Point:
    x = float(row.place[axis])
    if not as_change:
        return _Point(axis, x, row.paper, row.ours)
    change = row.change  # the dense arm has no change
    return _Point(axis, x, change.paper if change else None, change.ours if change else None)


def _curves(ax: Axes, points: list[_Point], label: str) -> None:
    paper = [(p.x, p.paper) for p in points if p.paper is not None]
    ax.plot([x for x, _ in paper], [y for _, y in paper], color=GREY, marker="s", linestyle="--", label="paper, gsm8k")
    ours = [(p.x, p.ours) for p in points if p.ours is not None]
    ax.errorbar(
        [x for x, _ in ours],
        [estimate.value for _, estimate in ours],
        yerr=error_bars([estimate for _, estimate in ours]),
        color=BLACK,
        marker="o",
        elinewidth=0.5,
        label=shown(label),
    )
