"""Parts that figures share: panels, marks, bands, axes and legends."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.figures.parts.labels import label_ends, shown
from analysis.figures.parts.looks import MOST_TOGETHER, Look, joined, looks, split
from analysis.figures.parts.styles import style
from analysis.short_names import short_names
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


MOST_IN_LEGEND = 7
"""Most entries of a legend. A figure with more series names them beside their marks or lines."""
MOST_LINES_IN_LEGEND = 4
"""Most arms with lines that a legend names; more have their names at the ends of the lines."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Axes with the marks, looks and names of their arms."""

    name: str
    """Name of the panel in the marks; split panels share it."""
    ax: Axes
    marks: dict[str, list[Mark]]
    looks: dict[str, Look]
    names: dict[str, str]


def panels_of(marks: Sequence[Mark], height: float, *, lines: bool) -> tuple[Figure, list[Panel]]:
    """Make a figure with one panel per panel name.

    ``lines``: the marks of an arm are joined. Then a panel with many arms is split, see ``looks.split``, and arms whose
    lines are the same have one, with all their names.
    """
    by_panel: dict[str, dict[str, list[Mark]]] = {}
    for mark in marks:
        by_panel.setdefault(mark.panel, {}).setdefault(mark.arm, []).append(mark)
    parts = [
        (name, about, {arm: by_arm[arm] for arm in arms})
        for name, by_arm in by_panel.items()
        for about, arms in (split(list(by_arm)) if lines else {"": list(by_arm)}).items()
    ]
    several = max(len(own) for _, _, own in parts) > (MOST_LINES_IN_LEGEND if lines else MOST_TOGETHER)
    figure, axes = panels(len(parts), height, wide=several)
    whole = looks([mark.arm for mark in marks])
    found = []
    for ax, (name, about, own) in zip(axes, parts, strict=True):
        ax.set_title(shown(": ".join(filter(None, (name, about)))))
        names = short_names(own)
        if lines:
            same = _same_lines(own)
            names = {first: joined([names[arm] for arm in arms]) for first, arms in same.items()}
            own = {first: own[first] for first in same}
        found.append(Panel(name, ax, own, looks(list(own)) if several else whole, names))
    return figure, found


def _same_lines(by_arm: Mapping[str, list[Mark]]) -> dict[str, list[str]]:
    """Return the arms whose marks are the same to three digits, by the first of them."""
    groups: dict[str, list[str]] = {}
    for arm, own in by_arm.items():
        places = " ".join(f"{mark.x.value:.3g},{mark.y.value:.3g}" for mark in own if mark.x is not None)
        groups.setdefault(places, []).append(arm)
    return {arms[0]: arms for arms in groups.values()}


def panels(
    n: int, height: float, *, columns: int | None = None, shared: bool = False, wide: bool = False
) -> tuple[Figure, list[Axes]]:
    """Make a figure of ``n`` panels, each about ``height`` inches high: one column wide for one panel, else two.

    ``columns`` is the most panels beside each other, two or three if None. If ``shared``, all panels have the same
    axes; if ``wide``, one panel is as wide as two.
    """
    columns = min(n, columns or (3 if n in (3, 5, 6) else 2))
    rows = math.ceil(n / columns)
    width = style().column_in if n == 1 and not wide else style().page_in
    figure = Figure(figsize=(width, height * style().height * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, sharex=shared, sharey=shared).flat)
    for spare in axes[n:]:
        spare.remove()
    return figure, axes[:n]


def finished(
    name: str,
    data: pd.DataFrame,
    figure: Figure,
    title: str = "",
    *,
    panels: Sequence[Panel] = (),
    named: Collection[str] = (),
    key: Mapping[str, Artist] | None = None,
) -> Drawn:
    """Add a title, and one legend below all panels, with each label once; the figure grows by its height.

    The legend leaves out the labels in ``named``: they stand at the ends of the lines of these ``panels``, whose limits
    are final. ``key`` replaces the marks' own labels.
    """
    for panel in panels:
        if set(panel.names.values()) & set(named):
            _name_lines(panel)
    if title:
        figure.suptitle(shown(title), fontsize=style().text_points)
    handles: dict[str, Artist] = dict(key or {})
    shown_names = {shown(one) for one in named}
    for axes in [] if key else figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            if label not in shown_names:
                handles.setdefault(label, handle)
    if not handles:
        return Drawn(name, data, figure)
    width, height = figure.get_size_inches()
    em = style().small_points / 72
    columns = min(len(handles), max(1, int(width / (em * (4.8 + 0.6 * max(map(len, handles)))))))
    figure.set_size_inches(width, height + 1.6 * em * math.ceil(len(handles) / columns))
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns)
    return Drawn(name, data, figure)


def draw_lines(panel: Panel) -> set[str]:
    """Draw the marks of each arm, joined. Return the names that ``finished`` is to write at the ends of the lines."""
    for arm, own in panel.marks.items():
        draw_marks(panel.ax, own, panel.looks[arm], panel.names[arm], joined=True)
    return set(panel.names.values()) if len(panel.marks) > MOST_LINES_IN_LEGEND else set()


def _name_lines(panel: Panel) -> None:
    """Write the name of each arm at the end of its line."""
    ends = {}
    for arm, own in panel.marks.items():
        last = max((mark for mark in own if mark.x is not None), key=lambda mark: mark.x.value if mark.x else 0.0)
        if last.x is not None:
            ends[panel.names[arm]] = (last.x.value, last.y.value, panel.looks[arm].color)
    label_ends(panel.ax, ends)


def draw_marks(ax: Axes, marks: Sequence[Mark], look: Look, name: str, *, joined: bool) -> None:
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
        elinewidth=0.5 * style().strokes,
        label=shown(name),
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


def slug(text: str) -> str:
    """Convert to a file name: ``gsm8k, 3 agents`` becomes ``gsm8k_3_agents``."""
    return "_".join("".join(c if c.isalnum() or c in ".=" else " " for c in text).split())
