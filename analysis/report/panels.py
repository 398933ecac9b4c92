"""Figures as small SVG panels: the lines, bands, bars and labels of a matplotlib figure, laid out by the page.

matplotlib spends most of a figure's time and bytes on laying out text. A page does that better: here every axes becomes
an SVG of its own, which wraps on narrow screens, and the legend becomes a list. Text stays text, coordinates have one
decimal, and palette colours become classes, so that dark mode can change them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from analysis.figures import styles
from harness.text import displayed

WIDTH, TOP, RIGHT, BOTTOM = 300.0, 22.0, 10.0, 36.0
_CHARACTER = 6.0
"""Width of a character of a tick label, about."""
_MOST_LEFT = 150.0
_CLASSES = {
    getattr(styles, name): name.lower()
    for name in ("BLACK", "GREY", "ORANGE", "SKY", "GREEN", "BLUE", "VERMILION", "PURPLE")
}
_DASHES = {"-": "", "--": "5 3", ":": "1.5 2", "-.": "6 2 1.5 2"}
_NO_LINE = ("None", "", " ")
_MARKERS = {
    "o": "m-{r},0a{r},{r} 0 1,0 {d},0a{r},{r} 0 1,0 -{d},0",
    "s": "m-{r},-{r}h{d}v{d}h-{d}z",
    "D": "m0,-{d}l{r},{d} l-{r},{d} l-{r},-{d}z",
    "^": "m0,-{d}l{d},{d}{r}h-{d}{d}z",
}


@dataclass(frozen=True, slots=True)
class Key:
    """An entry of a legend: a colour class, dashes, and the label."""

    color: str
    dashes: str
    area: bool
    label: str


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
            keys.setdefault(label, _key(handle, _plain(label)))
    grid = axes[0].get_gridspec() if axes else None
    panels = [Markup(_panel(ax)) for ax in axes]  # noqa: S704 - all text in it is escaped
    return Panels(panels, list(keys.values()), grid.ncols if grid else 1)


def _panel(ax: Axes) -> str:
    x_ticks, y_ticks = _ticks(ax, 0), _ticks(ax, 1)
    longest = max((len(label) for _, label in y_ticks), default=0)
    left = min(_MOST_LEFT, 10 + _CHARACTER * longest) + (14 if _label(ax, 1) else 0)
    height = _height(ax)
    plot = _Plot(ax, left, TOP, WIDTH - left - RIGHT, height - TOP - BOTTOM)
    parts = [_grid(plot, x_ticks, y_ticks), *_labels(plot, height)]
    inside, outside = [], []
    for artist in sorted((*ax.patches, *ax.collections, *ax.lines), key=lambda one: one.get_zorder()):
        (inside if artist.get_clip_on() else outside).extend(_marks(plot, artist))
    frame = f'x="{plot.left:g}" y="{plot.top:g}" width="{plot.width:g}" height="{plot.height:g}"'
    box = f'viewBox="{plot.left:g} {plot.top:g} {plot.width:g} {plot.height:g}"'
    parts += [f"<svg {frame} {box}>{''.join(inside)}</svg>", *outside]
    for text in ax.texts:
        x, y = plot.points(text.get_transform().transform([text.get_position()]))[0]
        parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="middle">{_escaped(text.get_text())}</text>')
    name = ", ".join(filter(None, (ax.get_title(), _label(ax, 1), f"by {_label(ax, 0)}" if _label(ax, 0) else "")))
    return (
        f'<svg class="panel" viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="{_escaped(name)}">'
        f"{''.join(parts)}</svg>"
    )


def _height(ax: Axes) -> float:
    """Return the height: bars need room for each, other panels have the page's proportions."""
    bars = len({round(float(bar.get_y()), 3) for bar in ax.patches if isinstance(bar, Rectangle)})
    categories = bars if ax.yaxis.get_major_formatter().__class__.__name__ == "StrCategoryFormatter" else 0
    return TOP + BOTTOM + 18 * categories + 8 if categories else 200.0


@dataclass(frozen=True, slots=True)
class _Plot:
    """The area inside the axes, in the panel's units."""

    ax: Axes
    left: float
    top: float
    width: float
    height: float

    def points(self, display_N2: NDArray[np.float64]) -> list[tuple[float, float]]:
        """Return positions in the panel of matplotlib's display coordinates ``[N, 2]``."""
        if not len(display_N2):
            return []
        inside_N2 = self.ax.transAxes.inverted().transform(display_N2)
        return [(self.left + self.width * x, self.top + self.height * (1 - y)) for x, y in inside_N2.tolist()]


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
        point = ax.transData.transform((place, low) if which == 0 else (ax.get_xlim()[0], place))
        at = float(ax.transAxes.inverted().transform(point)[which])
        found.append((at, f"{place:g}" if "mathdefault" in label else _plain(label)))
    return found


def _grid(plot: _Plot, x_ticks: Sequence[tuple[float, str]], y_ticks: Sequence[tuple[float, str]]) -> str:
    right, bottom = plot.left + plot.width, plot.top + plot.height
    xs = [(plot.left + plot.width * at, label) for at, label in x_ticks]
    ys = [(bottom - plot.height * at, label) for at, label in y_ticks]
    lines = "".join(f"M{x:.1f},{plot.top:g}V{bottom:g}" for x, _ in xs)
    lines += "".join(f"M{plot.left:g},{y:.1f}H{right:g}" for y, _ in ys)
    room = int((plot.left - 8) / _CHARACTER)
    parts = [f'<path class="grid" d="{lines}"/>' if lines else ""]
    parts += [f'<text class="middle" x="{x:.1f}" y="{bottom + 12:g}">{_escaped(label)}</text>' for x, label in xs]
    for y, label in ys:
        shown = label if len(label) <= room else f"…{label[-room:]}"
        parts.append(f'<text class="end" x="{plot.left - 5:g}" y="{y + 3.5:.1f}">{_escaped(shown)}</text>')
    return "".join(parts)


def _labels(plot: _Plot, height: float) -> Iterator[str]:
    middle, ax = plot.left + plot.width / 2, plot.ax
    if title := ax.get_title():
        yield f'<text class="title" x="{plot.left:g}" y="14">{_escaped(title)}</text>'
    if label := _label(ax, 0):
        yield f'<text class="middle" x="{middle:.1f}" y="{height - 6:g}">{_escaped(label)}</text>'
    if label := _label(ax, 1):
        y = plot.top + plot.height / 2
        yield f'<text class="middle" transform="translate(10,{y:.1f})rotate(-90)">{_escaped(label)}</text>'


def _label(ax: Axes, which: int) -> str:
    """Return the label of an axis. A figure writes it once per column or row; panels may wrap, so each has its own."""
    if own := (ax.get_xlabel, ax.get_ylabel)[which]():
        return own
    others = [one for one in ax.figure.axes if one.get_subplotspec() is not None]
    spans = [(one.get_subplotspec().colspan, one.get_subplotspec().rowspan)[which] for one in others]  # type: ignore[union-attr]
    place = ax.get_subplotspec()
    if place is None:
        return ""
    here = (place.colspan, place.rowspan)[which]
    labels = [
        (one.get_xlabel, one.get_ylabel)[which]() for one, span in zip(others, spans, strict=True) if span == here
    ]
    return next(filter(None, labels), "")


def _marks(plot: _Plot, artist: object) -> Iterator[str]:
    match artist:
        case Line2D():
            yield from _line(plot, artist)
        case LineCollection():
            color = _class(artist.get_color()[0])
            lines = [artist.get_transform().transform(part) for part in artist.get_segments() if len(part)]
            if path := "".join(_path(plot.points(points)) for points in lines):
                yield f'<path class="{color} line thin" d="{path}"/>'
        case PolyCollection():
            outlines = [artist.get_transform().transform(path.vertices) for path in artist.get_paths()]
            path = "".join(_path(plot.points(points)) for points in outlines)
            yield f'<path class="{_class(artist.get_facecolor()[0])} area" d="{path}z"/>'
        case Rectangle():
            corners = plot.points(artist.get_verts())
            faint = " area" if (artist.get_alpha() or 1) < 1 else " bar"
            yield f'<path class="{_class(artist.get_facecolor())}{faint}" d="{_path(corners)}z"/>'
        case _:
            raise TypeError(f"a figure has a mark of kind {type(artist).__name__}, which a page cannot show yet")


def _line(plot: _Plot, line: Line2D) -> Iterator[str]:
    points = plot.points(line.get_transform().transform(np.asarray(line.get_xydata(), dtype=float)))
    color, style, marker = _class(line.get_color()), str(line.get_linestyle()), str(line.get_marker())
    if style not in _NO_LINE:
        dashes = _DASHES.get(style, "")
        thin = " thin" if line.get_linewidth() < 0.7 else ""
        faint = " faint" if (line.get_alpha() or 1) < 0.5 else ""
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        if path := _path(points):
            yield f'<path class="{color} line{thin}{faint}"{dashed} d="{path}"/>'
    if marker in (*_NO_LINE, "|", "_") or line.get_markersize() == 0:
        return  # the caps of error bars
    sign = (
        _MARKERS.get(marker, _MARKERS["o"]).format(r="2.4", d="4.8").replace("4.82.4", "7.2").replace("4.84.8", "9.6")
    )
    if known := [f"M{x:.1f},{y:.1f}{sign}" for x, y in points if math.isfinite(x) and math.isfinite(y)]:
        hollow = " hollow" if line.get_fillstyle() == "none" else ""
        yield f'<path class="{color} mark{hollow}" d="{"".join(known)}"/>'


def _path(points: Sequence[tuple[float, float]]) -> str:
    """Return the path through points, interrupted where one is unknown."""
    parts, pen = [], "M"
    for x, y in points:
        if not (math.isfinite(x) and math.isfinite(y)):
            pen = "M"
            continue
        parts.append(f"{pen}{max(-999.0, min(x, 1999.0)):.1f},{max(-999.0, min(y, 1999.0)):.1f}")
        pen = "L"
    return "".join(parts)


def _class(color: object) -> str:
    return _CLASSES.get(to_hex(color).upper(), "grey")  # type: ignore[arg-type]


def _key(handle: object, label: str) -> Key:
    line = handle[0] if isinstance(handle, tuple) else handle  # an error bar, or bars
    if isinstance(line, Line2D):
        style = str(line.get_linestyle())
        return Key(_class(line.get_color()), _DASHES.get(style, ""), style in _NO_LINE, label)
    face = line.get_facecolor()
    return Key(_class(face[0] if np.ndim(face) == 2 else face), "", True, label)


def _plain(text: str) -> str:
    return text.replace(r"\$", "$")


def _escaped(text: str) -> str:
    return escape(displayed(_plain(" ".join(text.split()))))
