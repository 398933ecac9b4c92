"""The paper's table 6 as curves: accuracy and reuse by gamma and by the most anchors of a pool, beside the paper's."""

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.drawing import (
    BLACK,
    GREY,
    Drawn,
    NothingToDrawError,
    columns_of,
    error_bars,
    legend_below,
    panels,
    shown,
    slug,
    styled,
)
from analysis.load import Records
from analysis.paper_tables import PaperTable, table_6
from analysis.paper_tables.rows import PaperRow

_AXES = {"gamma": "entropy threshold gamma", "max_anchors": "most anchors of a pool"}
_METRICS = {"accuracy": "accuracy (%)", "reuse_rate": "turns reused (%)"}


@styled
def sensitivity(records: Records) -> list[Drawn]:
    """A figure for each of our models and settings."""
    drawn = []
    for table in table_6(records):
        for settings in dict.fromkeys(row.settings for row in table.rows if row.ours is not None):
            drawn.append(_draw(table, settings))
    if not drawn:
        raise NothingToDrawError("needs gsm8k with 4 agents at several values of kvcomm.gamma or kvcomm.max_anchors")
    return drawn


def _draw(table: PaperTable, settings: str) -> Drawn:
    figure, axes = panels(4, 1.9)
    places = [(axis, metric) for metric in _METRICS for axis in _AXES]
    for ax, (axis, metric) in zip(axes, places, strict=True):
        rows = [row for row in table.rows if axis in row.place and row.metric == metric]
        _curves(ax, axis, rows, settings, f"ours: {table.model}")
        ax.set_xlabel(_AXES[axis])
        ax.set_ylabel(_METRICS[metric])
    title = f"gsm8k, 4 agents{f', {settings}' if settings else ''}"
    figure.suptitle(shown(title), fontsize=7)
    legend_below(figure)
    data = [
        {**row.place, "metric": row.metric, "paper": row.paper, **(columns_of("ours", row.ours) if row.ours else {})}
        for row in table.rows
        if row.settings == settings or row.ours is None
    ]
    return Drawn(slug(f"sensitivity {table.model} {settings}"), pd.DataFrame(data), figure)


def _curves(ax: Axes, axis: str, rows: list[PaperRow], settings: str, label: str) -> None:
    paper = {row.place[axis]: row.paper for row in rows if row.paper is not None}
    ax.plot([float(x) for x in paper], list(paper.values()), color=GREY, marker="s", linestyle="--", label="paper")
    ours = {row.place[axis]: row.ours for row in rows if row.ours is not None and row.settings == settings}
    ax.errorbar(
        [float(x) for x in ours],
        [e.value for e in ours.values()],
        yerr=error_bars(list(ours.values())),
        color=BLACK,
        marker="o",
        elinewidth=0.5,
        label=label,
    )
