"""Parts that figures share: panels, marks, bands, axes and legends."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.figures.styles import COLUMN_IN, PAGE_IN, Look, looks
from analysis.stats import Estimate


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure and its numbers."""

    name: str
    """Name of the figure and of its files."""
    data: pd.DataFrame
    figure: Figure


@dataclass(frozen=True, slots=True)
class Mark:
    """A number of one arm at one position in a panel."""

    panel: str
    arm: str
    x: Estimate | None
    """Position on the x axis; None if the arm has none."""
    y: Estimate


class NothingToDrawError(Exception):
    """Raised if the results hold nothing for a figure. The message says what it needs and how to produce it."""


Panel = tuple[Axes, dict[str, list[Mark]]]
"""Axes, and their marks by arm."""


def panels_of(marks: Sequence[Mark], height: float) -> tuple[Figure, list[Panel], dict[str, Look]]:
    """Make a figure with one panel per panel name; return it with its panels and the look of each arm."""
    by_panel: dict[str, dict[str, list[Mark]]] = {}
    for mark in marks:
        by_panel.setdefault(mark.panel, {}).setdefault(mark.arm, []).append(mark)
    figure, axes = panels(len(by_panel), height)
    for ax, name in zip(axes, by_panel, strict=True):
        ax.set_title(shown(name))
    return figure, list(zip(axes, by_panel.values(), strict=True)), looks([mark.arm for mark in marks])


def panels(n: int, height: float, *, columns: int = 2, shared: bool = False) -> tuple[Figure, list[Axes]]:
    """Make a figure of ``n`` panels, each ``height`` inches high: one column wide for one panel, else two.

    If ``shared``, all panels have the same axes.
    """
    columns = min(n, columns)
    rows = math.ceil(n / columns)
    figure = Figure(figsize=(COLUMN_IN if n == 1 else PAGE_IN, height * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, sharex=shared, sharey=shared).flat)
    for spare in axes[n:]:
        spare.remove()
    return figure, axes[:n]


def finished(name: str, data: pd.DataFrame, figure: Figure, title: str = "") -> Drawn:
    """Add a title, and one legend below all panels, with each label once; the figure grows by its height."""
    if title:
        figure.suptitle(shown(title), fontsize=7)
    handles: dict[str, Artist] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    width, height = figure.get_size_inches()
    columns = min(len(handles), max(1, int(width / (0.4 + 0.05 * max(map(len, handles))))))
    figure.set_size_inches(width, height + 0.13 * math.ceil(len(handles) / columns))
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns)
    return Drawn(name, data, figure)


def draw_marks(ax: Axes, marks: Sequence[Mark], look: Look, *, joined: bool) -> None:
    """Draw the marks of one arm with their intervals, as points or joined by a line."""
    xs, ys = [mark.x for mark in marks if mark.x is not None], [mark.y for mark in marks if mark.x is not None]
    ax.errorbar(
        [x.value for x in xs],
        [y.value for y in ys],
        xerr=error_bars(xs),
        yerr=error_bars(ys),
        color=look.color,
        marker=look.marker,
        linestyle=look.line if joined else "",
        elinewidth=0.5,
        label=short(marks[0].arm),
    )


def draw_band(ax: Axes, by_layer: Mapping[int, Estimate], color: str, line: str, label: str) -> None:
    """Draw values by layer as a line, with their intervals as a band if each has one."""
    layers, estimates = list(by_layer), list(by_layer.values())
    ax.plot(layers, [e.value for e in estimates], color=color, linestyle=line, label=label)
    if all(e.low is not None for e in estimates):
        low, high = ([getattr(e, end) for e in estimates] for end in ("low", "high"))
        ax.fill_between(layers, low, high, color=color, alpha=0.15, linewidth=0)


def error_bars(estimates: Sequence[Estimate]) -> list[list[float]]:
    """Return the distances to the interval ends for matplotlib; NaN, which it skips, if there is no interval."""
    below = [math.nan if e.low is None else max(e.value - e.low, 0.0) for e in estimates]
    above = [math.nan if e.high is None else max(e.high - e.value, 0.0) for e in estimates]
    return [below, above]


def columns_of(name: str, estimate: Estimate) -> dict[str, float | int | None]:
    """Return an estimate as columns of a figure's data."""
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high, f"{name}_n": estimate.n}


def exactly(value: float) -> Estimate:
    """Wrap an exact number as an estimate, for an axis."""
    return Estimate(value, None, None, 1, 1)


def whole_numbers(ax: Axes, label: str) -> None:
    """Label the x axis, and restrict its ticks to whole numbers."""
    ax.set_xlabel(label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def short(arm: str) -> str:
    """Shorten for a legend: ``kvcomm mean gamma=0.1`` rather than ``kvcomm estimator=mean gamma=0.1``."""
    return shown(arm.replace("estimator=", "").replace("criterion=", ""))


def shown(text: str) -> str:
    """Escape text from results, such as a model's name: matplotlib must not read it as a formula, and SVG forbids
    control characters."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text).replace("$", r"\$")


def slug(text: str) -> str:
    """Convert to a file name: ``gsm8k, 3 agents`` becomes ``gsm8k_3_agents``."""
    return "_".join("".join(c if c.isalnum() or c in ".=" else " " for c in text).split())
