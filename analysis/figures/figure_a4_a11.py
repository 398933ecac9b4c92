"""The paper's figures A.4 to A.11: offsets of an agent's segments, by layer and by hidden dimension."""

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.parts.drawing import Drawn, finished, panels, whole_numbers
from analysis.figures.parts.styles import BLUE, VERMILION, styled
from analysis.figures.probed import Probed, probed
from analysis.results import Results

_KINDS = {"text": (VERMILION, "text after it"), "placeholder": (BLUE, "placeholder")}
"""Kinds of segment. The wider distribution comes first, so that the other is drawn over it."""
_AXES = {"layer": "layer", "dimension": "hidden dimension (head x channel)"}


@styled
def figure_a4_a11(results: Results) -> list[Drawn]:
    """Draw a figure for each agent of each ``offsets`` trial: medians, and bands from the 5 % to the 95 % quantile."""
    return [
        _draw(one, int(str(agent)), rows)
        for one in probed(results, "offsets", "figure_a4_a11")
        for agent, rows in one.rows.groupby("agent_index")
    ]


def _draw(one: Probed, agent: int, rows: pd.DataFrame) -> Drawn:
    figure, axes = panels(4, 1.7)
    for index, part in enumerate(("keys", "values")):
        for ax, (axis, label) in zip(axes[2 * index : 2 * index + 2], _AXES.items(), strict=True):
            own = rows[(rows["part"] == part) & rows[axis].notna()]
            for kind, (color, name) in _KINDS.items():
                _distribution(ax, own[own["kind"] == kind], axis, color, name)
            ax.set_title(f"{part}, by {axis}")
            ax.set_ylabel("offset")
            whole_numbers(ax, label)
    names = ["agent_index", "kind", "part", "layer", "dimension", "statistic", "value", "n"]
    data = rows[names].reset_index(drop=True)
    return finished(one.figure_name(f"figure_a4_a11_agent_{agent}"), data, figure, f"{one.title}: agent {agent}")


def _distribution(ax: Axes, rows: pd.DataFrame, axis: str, color: str, name: str) -> None:
    if rows.empty:
        return
    wide = rows.astype({axis: "int64"}).pivot_table(index=axis, columns="statistic", values="value", sort=True)
    ax.fill_between(
        wide.index, wide["q05"], wide["q95"], color=color, alpha=0.4, linewidth=0, label=f"{name}, 5 to 95 %"
    )
    ax.plot(wide.index, wide["q50"], color=color, linewidth=0.8, label=f"{name}, median")
