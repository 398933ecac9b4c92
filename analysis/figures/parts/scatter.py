"""Points with names beside them, their intervals, and the Pareto front."""

from collections.abc import Collection, Sequence

import numpy as np
from matplotlib.axes import Axes

from analysis.figures.parts.drawing import Mark, Panel, error_bars
from analysis.figures.parts.labels import Named, apart, label_points, laid_out
from analysis.figures.parts.styles import style

_FRONT = "#777777"
_FAINT = 0.3
_APART = 1.05
"""Least distance of two marks, in their own size."""


def draw_intervals(panel: Panel) -> None:
    """Draw the intervals of all marks, thin and pale: they cross where the marks belong."""
    for arm, own in panel.marks.items():
        marks = [mark for mark in own if mark.x is not None]
        xs = [mark.x for mark in marks if mark.x is not None]
        panel.ax.errorbar(
            [x.value for x in xs],
            [mark.y.value for mark in marks],
            xerr=error_bars(xs),
            yerr=error_bars([mark.y for mark in marks]),
            fmt="none",
            ecolor=panel.looks[arm].color,
            elinewidth=0.6 * style().strokes,
            capsize=0,
            alpha=_FAINT,
        )


def draw_front(ax: Axes, points: Sequence[tuple[float, float]], most: float) -> None:
    """Draw the Pareto front as steps through these points, by rising cost, and on to the highest cost of any arm.

    At each cost, the line has the best that an arm of this cost or less reaches.
    """
    if points:
        xs, ys = zip(*points, (most, points[-1][1]), strict=True)
        ax.step(xs, ys, where="post", color=_FRONT, linestyle="--", label="Pareto front", zorder=1)


def draw_limit(ax: Axes, x: float, name: str) -> None:
    """Draw a vertical line, beyond which a mark is not worth its cost."""
    ax.axvline(x, color=_FRONT, linestyle=":", label=name, zorder=1)


def place_marks(panels: Sequence[Panel], hollow: Collection[str] = ()) -> None:
    """Draw the marks with their names. Call this last: it fixes the layout.

    Marks that would cover each other stand side by side, at most a few points from where their intervals cross.
    ``hollow`` has the arms to be drawn so.
    """
    if panels:
        laid_out(panels[0].ax)
    for panel in panels:
        ax, limits = panel.ax, (panel.ax.get_xlim(), panel.ax.get_ylim())
        marks = [(arm, mark) for arm, own in panel.marks.items() for mark in own if mark.x is not None]
        if not marks:
            continue
        true_N2 = ax.transData.transform([_place(mark) for _, mark in marks])
        size = 3.5 * style().strokes * ax.figure.dpi / 72
        shown_N2 = ax.transData.inverted().transform(apart(np.asarray(true_N2, dtype=float), _APART * size))
        for (arm, _), (x, y) in zip(marks, shown_N2, strict=True):
            look = panel.looks[arm]
            face = "white" if arm in hollow else look.color
            ax.plot([x], [y], color=look.color, marker=look.marker, linestyle="", markerfacecolor=face, zorder=3)
        ax.set(xlim=limits[0], ylim=limits[1])
        label_points(
            ax,
            [
                Named(panel.names[arm], float(x), float(y), panel.looks[arm].color)
                for (arm, _), (x, y) in zip(marks, shown_N2, strict=True)
            ],
        )


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the (cost, gain) points that no other point dominates, by rising cost."""
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not front or points[index][1] > points[front[-1]][1]:
            front.append(index)
    return front


def _place(mark: Mark) -> tuple[float, float]:
    assert mark.x is not None  # noqa: S101 - the callers leave out marks without a place
    return mark.x.value, mark.y.value
