"""Names beside marks and lines, in place of legends, and marks that do not cover each other.

Texts with the group id ``name`` stand beside what they name. The report, which lists the names below a figure, leaves
them out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from numpy.typing import NDArray

from analysis.figures.parts.styles import style

NAME = "name"
"""Group id of a name."""
_CONTRAST = 4.5
_THREAD = {"arrowstyle": "-", "linewidth": 0.4, "shrinkB": 2}
"""The thin line between a name and what it names."""
_CHARACTER, _LINE = 0.6, 1.15
"""Width of a character and height of a line in the font's size, about."""


def label_ends(ax: Axes, ends: Mapping[str, tuple[float, float, str]]) -> None:
    """Write names right of the axes, each at the height of its line's end, or as close to it as the others allow.

    ``ends`` holds position and colour by name. The limits of the axes must be final.
    """
    size = style().small_points
    ax.autoscale_view()  # what was drawn last now counts in the limits
    inches = ax.get_window_extent().height / ax.figure.dpi * 0.8  # titles will take some of the height
    gap = size * _LINE / 72 / inches
    inside = ax.transAxes.inverted()
    heights = {name: float(inside.transform(ax.transData.transform((x, y)))[1]) for name, (x, y, _) in ends.items()}
    names = sorted(ends, key=lambda name: heights[name])
    room = max(0.0, 1.0 - (len(names) - 1) * gap)
    wanted = [min(max(heights[name], index * gap), room + index * gap) for index, name in enumerate(names)]
    for name, height in zip(names, spread(wanted, gap), strict=True):
        x, y, color = ends[name]
        ax.annotate(
            shown(name),
            (x, y),
            (1.04, height),
            textcoords="axes fraction",
            fontsize=size,
            color=ink(color),
            verticalalignment="center",
            annotation_clip=False,
            gid=NAME,
            arrowprops={
                "arrowstyle": "-",
                "color": color,
                "linewidth": 0.4,
                "shrinkA": 1,
                "shrinkB": 2,
                "relpos": (0, 0.5),
            },
        )


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """Return rising positions at least ``gap`` apart, as near as possible to these (least squares)."""
    # Runs of neighbours that touch move together, to the mean of what each of them wants.
    runs: list[tuple[float, int]] = []  # where a run begins, and how many are in it
    for position in positions:
        runs.append((position, 1))
        while len(runs) > 1 and runs[-2][0] + runs[-2][1] * gap > runs[-1][0]:
            (second, n_second), (first, n_first) = runs.pop(), runs.pop()
            start = (first * n_first + (second - n_first * gap) * n_second) / (n_first + n_second)
            runs.append((start, n_first + n_second))
    return [start + index * gap for start, n in runs for index in range(n)]


def apart(points_N2: NDArray[np.float64], distance: float) -> NDArray[np.float64]:
    """Return points ``[N, 2]`` of which no two are closer than ``distance``, moved as little as a few steps find.

    Points that are far enough from all others stay. Equal points leave each other sideways.
    """
    moved_N2 = np.array(points_N2, dtype=float)
    for _ in range(200):
        crowded = False
        for one in range(len(moved_N2)):
            for other in range(one):
                offset_2 = moved_N2[one] - moved_N2[other]
                away = float(np.hypot(*offset_2))
                if away >= distance * (1 - 1e-6):
                    continue
                crowded = True
                direction_2 = offset_2 / away if away > 1e-9 else np.array([1.0, 0.0])
                push_2 = direction_2 * (distance - away) / 2 * 1.01
                moved_N2[one] += push_2
                moved_N2[other] -= push_2
        if not crowded:
            break
    return moved_N2


@dataclass(frozen=True, slots=True)
class Named:
    """A mark with a name, at a position in the data."""

    name: str
    x: float
    y: float
    color: str


@dataclass(frozen=True, slots=True)
class _Box:
    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: "_Box") -> float:
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return width * height if width > 0 and height > 0 else 0.0


def label_points(ax: Axes, points: Sequence[Named]) -> None:
    """Write each name beside its mark, where it covers neither marks nor other names, joined by a thin line if far.

    The layout of the figure must be done: see ``laid_out``.
    """
    size = style().small_points
    per_pixel = 72 / ax.figure.dpi
    places = [per_pixel * np.asarray(ax.transData.transform((point.x, point.y)), dtype=float) for point in points]
    frame = ax.get_window_extent()
    room = _Box(*(per_pixel * side for side in (frame.x0, frame.y0, frame.x1, frame.y1)))
    radius = 2.5 * style().strokes
    taken = [_Box(x - radius, y - radius, x + radius, y + radius) for x, y in places]
    for (x, y), point in sorted(zip(places, points, strict=True), key=lambda pair: -pair[0][1]):
        width, height = size * _CHARACTER * len(point.name), size
        box = min(_boxes(x, y, width, height, radius), key=lambda box: _cost(box, x, y, taken, room))
        taken.append(box)
        far = max(box.left - x, x - box.right, box.bottom - y, y - box.top) > 2 * radius
        ax.annotate(
            shown(point.name),
            (point.x, point.y),
            (box.left - x, (box.bottom + box.top) / 2 - y),
            textcoords="offset points",
            fontsize=size,
            color=ink(point.color),
            verticalalignment="center",
            gid=NAME,
            bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.4},
            arrowprops=_THREAD | {"color": point.color, "shrinkA": 0} if far else None,
        )


def _boxes(x: float, y: float, width: float, height: float, radius: float) -> list[_Box]:
    """Return places for a text around a mark: right, left, above and below, then farther away."""
    found = []
    for reach in (1.3 * radius, 4 * radius, 7 * radius, 11 * radius, 16 * radius):
        for left in (x + reach, x - reach - width, x - width / 2):
            for middle in (y, y + reach + height / 2, y - reach - height / 2):
                if (left, middle) != (x - width / 2, y):
                    found.append(_Box(left, middle - height / 2, left + width, middle + height / 2))
    return found


def _cost(box: _Box, x: float, y: float, taken: Sequence[_Box], room: _Box) -> float:
    area = (box.right - box.left) * (box.top - box.bottom)
    outside = area - box.overlap(room)
    covered = sum(box.overlap(other) for other in taken)
    away = float(np.hypot((box.left + box.right) / 2 - x, (box.bottom + box.top) / 2 - y))
    return 50 * covered + 20 * outside + away


def laid_out(ax: Axes) -> None:
    """Lay the figure out now, and keep that layout, so that positions on paper are known."""
    ax.figure.draw_without_rendering()  # type: ignore[union-attr]
    ax.figure.set_layout_engine("none")  # type: ignore[union-attr]


def ink(color: str) -> str:
    """Return a colour as dark as text needs to be on white."""
    red, green, blue = to_rgb(color)
    while _contrast(red, green, blue) < _CONTRAST:
        red, green, blue = 0.93 * red, 0.93 * green, 0.93 * blue
    return to_hex((red, green, blue))


def _contrast(*channels: float) -> float:
    """Return the contrast to white, as WCAG 2 defines it."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 1.05 / (0.05 + sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True)))


def shown(text: str) -> str:
    """Escape text from results, such as a model's name: matplotlib must not read it as a formula, and SVG forbids
    control characters."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text).replace("$", r"\$")
