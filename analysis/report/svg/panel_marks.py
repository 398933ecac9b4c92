"""The marks of a matplotlib axes as SVG: lines, bands, bars, points and the text on them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation, Text
from numpy.typing import NDArray

from analysis.figures.parts import styles
from analysis.figures.parts.looks import RAMPS
from harness.text import displayed

_CLASSES = {
    getattr(styles, name): name.lower()
    for name in ("BLACK", "GREY", "ORANGE", "SKY", "GREEN", "BLUE", "VERMILION", "PURPLE")
}
_CLASSES |= {
    color: f"ramp-{number} step-{step}" for number, ramp in enumerate(RAMPS) for step, color in enumerate(ramp)
}
_DASHES = {"-": "", "--": "5 3", ":": "1.5 2", "-.": "6 2 1.5 2"}
_HATCHES = {"///": " hatch-1", "...": " hatch-2", "xxx": " hatch-3", "++": " hatch-4"}
_NO_LINE = ("None", "", " ")
_DOT = "m-2.4,0a2.4,2.4 0 1,0 4.8,0a2.4,2.4 0 1,0 -4.8,0"
_MARKERS = {
    "s": "m-2.2,-2.2h4.4v4.4h-4.4z",
    "D": "m0,-3l3,3l-3,3l-3,-3z",
    "^": "m0,-3l2.8,5h-5.6z",
    "v": "m0,3l2.8,-5h-5.6z",
    "X": "m-2.4,-2.4l4.8,4.8m0,-4.8l-4.8,4.8",
    "P": "m-3,0h6m-3,-3v6",
}
"""Paths of markers; others are dots, since colours and dashes tell series apart, too."""


@dataclass(frozen=True, slots=True)
class Key:
    """An entry of a legend: a colour class, dashes, and the label."""

    color: str
    dashes: str
    area: bool
    label: str


@dataclass(frozen=True, slots=True)
class Plot:
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


def marks(plot: Plot, artist: Artist) -> Iterator[str]:
    """Yield the SVG of one mark. Raises ``TypeError`` for a kind that no figure here has."""
    match artist:
        case Line2D():
            yield from _line(plot, artist)
        case LineCollection():
            color = _class(artist.get_color()[0])
            lines = [artist.get_transform().transform(part) for part in artist.get_segments() if len(part)]
            if path := "".join(_path(plot.points(points)) for points in lines):
                yield f'<path class="{color} line thin" d="{path}"/>'
        case PolyCollection():
            outlines = [np.asarray(outline.vertices, dtype=float) for outline in artist.get_paths()]
            shown = [np.asarray(artist.get_transform().transform(own_N2), dtype=float) for own_N2 in outlines]
            path = "".join(_path(plot.points(points)) for points in shown)
            yield f'<path class="{_class(artist.get_facecolor()[0])} area" d="{path}z"/>'
        case Rectangle():
            corners = plot.points(np.asarray(artist.get_verts(), dtype=float))
            kind = " area" if (artist.get_alpha() or 1) < 1 else f" bar{_hatch(artist)}"
            yield f'<path class="{_class(artist.get_facecolor())}{kind}" d="{_path(corners)}z"/>'
        case _:
            raise TypeError(f"a figure has a mark of kind {type(artist).__name__}, which a page cannot show yet")


def _line(plot: Plot, line: Line2D) -> Iterator[str]:
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
    sign = _MARKERS.get(marker, _DOT)
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


def key_of(handle: object, label: str) -> Key:
    """Return the legend's entry for a line, an error bar, a band or bars."""
    line: Any = handle[0] if isinstance(handle, tuple) else handle  # an error bar, or bars
    if isinstance(line, Line2D):
        style = str(line.get_linestyle())
        return Key(_class(line.get_color()), _DASHES.get(style, ""), style in _NO_LINE, label)
    face = line.get_facecolor()
    hatch = _hatch(line) if isinstance(line, Rectangle) else ""
    return Key(_class(face[0] if np.ndim(face) == 2 else face) + hatch, "", True, label)


def _hatch(bar: Rectangle) -> str:
    """Return the class that stands for a hatch."""
    return _HATCHES.get(str(bar.get_hatch()), "")


def text_on(plot: Plot, text: Text) -> str:
    """Return the SVG of a text inside the axes, such as a bar's label."""
    display = text.get_transform().transform([text.get_position()])
    if isinstance(text, Annotation):
        display = plot.ax.transData.transform([text.xy])
        if callable(text.xycoords):  # as bar_label does it: the position is in shares of the box of a bar
            box: Any = text.xycoords(None)  # type: ignore[arg-type] # the boxes of shapes need no renderer
            display = np.array([(box.x0 + text.xy[0] * box.width, box.y0 + text.xy[1] * box.height)])
    ((x, y),) = plot.points(np.asarray(display, dtype=float))
    return f'<text x="{x:.1f}" y="{y + 3.5:.1f}" class="middle on">{escaped(text.get_text())}</text>'


def plain(text: str) -> str:
    """Undo what keeps matplotlib from reading text as a formula."""
    return text.replace(r"\$", "$")


def escaped(text: str) -> str:
    """Return text of a figure for SVG."""
    return escape(displayed(plain(" ".join(text.split()))))
