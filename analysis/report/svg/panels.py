"""Figures as small SVG panels: the lines, bands, bars and labels of a matplotlib figure, laid out by the page.

matplotlib spends most of a figure's time and bytes on laying out text. A page does that better: here every axes becomes
an SVG of its own, which wraps on narrow screens, and the legend becomes a list. Text stays text, coordinates have one
decimal, and palette colours become classes, so that dark mode can change them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.category import StrCategoryFormatter
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.figures.parts.labels import NAME
from analysis.report.svg.panel_marks import Key, Plot, escaped, key_of, marks, plain, text_on

WIDTH, TOP, RIGHT, BOTTOM = 300.0, 22.0, 10.0, 36.0
_CHARACTER = 6.4
"""Width of a character of a tick label, about."""
_MOST_LEFT = 150.0
_HEIGHT, _BAR = 200.0, 18.0
"""Height of a panel, and of one bar in a panel of bars."""


@dataclass(frozen=True, slots=True)
class Panels:
    """A figure for a page."""

    panels: list[Markup]
    keys: list[Key]
    columns: int
    """Most panels beside each other, as in the figure."""


def panels_of_figure(figure: Figure) -> Panels:
    """Draw each axes of a figure. Raises ``TypeError`` for a kind of mark that no figure here has."""
    axes = list(figure.axes)
    keys: dict[str, Key] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            keys.setdefault(label, key_of(handle, plain(label)))
    grid = axes[0].get_gridspec() if axes else None
    panels = [Markup(_panel(ax)) for ax in axes]  # noqa: S704 - all text in it is escaped
    return Panels(panels, list(keys.values()), grid.ncols if grid else 1)


def _panel(ax: Axes) -> str:
    x_ticks, y_ticks = _ticks(ax, 0), _ticks(ax, 1)
    longest = max((len(label) for _, label in y_ticks), default=0)
    left = min(_MOST_LEFT, 12 + _CHARACTER * longest) + (14 if _label(ax, 1) else 0)
    height = _height(ax)
    plot = Plot(ax, left, TOP, WIDTH - left - RIGHT, height - TOP - BOTTOM)
    parts = [_grid(plot, x_ticks, y_ticks), *_labels(plot, height)]
    inside: list[str] = []
    outside: list[str] = []
    for artist in sorted((*ax.patches, *ax.collections, *ax.lines), key=lambda one: one.get_zorder()):
        (inside if artist.get_clip_on() else outside).extend(marks(plot, artist))
    frame = f'x="{plot.left:g}" y="{plot.top:g}" width="{plot.width:g}" height="{plot.height:g}"'
    box = f'viewBox="{plot.left:g} {plot.top:g} {plot.width:g} {plot.height:g}"'
    parts += [f"<svg {frame} {box}>{''.join(inside)}</svg>", *outside]
    parts += [text_on(plot, text) for text in ax.texts if text.get_gid() != NAME]  # the page lists the names
    name = ", ".join(filter(None, (ax.get_title(), _label(ax, 1), f"by {_label(ax, 0)}" if _label(ax, 0) else "")))
    return (
        f'<svg class="panel" viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="{escaped(name)}">'
        f"{''.join(parts)}</svg>"
    )


def _height(ax: Axes) -> float:
    """Return the height: bars need room for each, other panels have the page's proportions."""
    if not isinstance(ax.yaxis.get_major_formatter(), StrCategoryFormatter):
        return _HEIGHT
    bars = {round(float(bar.get_y()), 3) for bar in ax.patches if isinstance(bar, Rectangle)}
    return TOP + BOTTOM + _BAR * len(bars) + 8


def _ticks(ax: Axes, which: int) -> list[tuple[float, str]]:
    """Return the ticks inside an axis: positions from 0 to 1, and labels."""
    axis = (ax.xaxis, ax.yaxis)[which]
    low, high = axis.get_view_interval()
    places = [float(place) for place in axis.get_majorticklocs()]
    labels = axis.get_major_formatter().format_ticks(places)
    found = []
    for place, label in zip(places, labels, strict=True):
        if not min(low, high) - 1e-9 <= place <= max(low, high) + 1e-9:
            continue
        point = ax.transData.transform((place, ax.get_ylim()[0]) if which == 0 else (ax.get_xlim()[0], place))
        at = float(ax.transAxes.inverted().transform(point)[which])
        found.append((at, f"{place:g}" if "mathdefault" in label else plain(label)))
    return found


def _grid(plot: Plot, x_ticks: Sequence[tuple[float, str]], y_ticks: Sequence[tuple[float, str]]) -> str:
    right, bottom = plot.left + plot.width, plot.top + plot.height
    xs = [(plot.left + plot.width * at, label) for at, label in x_ticks]
    ys = [(bottom - plot.height * at, label) for at, label in y_ticks]
    lines = "".join(f"M{x:.1f},{plot.top:g}V{bottom:g}" for x, _ in xs)
    lines += "".join(f"M{plot.left:g},{y:.1f}H{right:g}" for y, _ in ys)
    room = int((plot.left - 8) / _CHARACTER)
    parts = [f'<path class="grid" d="{lines}"/>' if lines else ""]
    parts += [f'<text class="middle" x="{x:.1f}" y="{bottom + 12:g}">{escaped(label)}</text>' for x, label in xs]
    for y, label in ys:
        shown = label if len(label) <= room else f"…{label[-room:]}"
        parts.append(f'<text class="end" x="{plot.left - 5:g}" y="{y + 3.5:.1f}">{escaped(shown)}</text>')
    return "".join(parts)


def _labels(plot: Plot, height: float) -> Iterator[str]:
    middle, ax = plot.left + plot.width / 2, plot.ax
    if title := ax.get_title():
        yield f'<text class="title" x="{plot.left:g}" y="14">{escaped(title)}</text>'
    if label := _label(ax, 0):
        yield f'<text class="middle" x="{middle:.1f}" y="{height - 6:g}">{escaped(label)}</text>'
    if label := _label(ax, 1):
        y = plot.top + plot.height / 2
        yield f'<text class="middle" transform="translate(10,{y:.1f})rotate(-90)">{escaped(label)}</text>'


def _label(ax: Axes, which: int) -> str:
    """Return the label of an axis. A figure writes it once per column or row; panels may wrap, so each has its own."""
    if own := (ax.get_xlabel, ax.get_ylabel)[which]():
        return own
    labels = [
        (one.get_xlabel, one.get_ylabel)[which]() for one in ax.figure.axes if _span(one, which) == _span(ax, which)
    ]
    return next(filter(None, labels), "")


def _span(ax: Axes, which: int) -> object:
    """Return the columns or rows that an axes takes in its figure."""
    place = ax.get_subplotspec()
    return None if place is None else (place.colspan, place.rowspan)[which]
