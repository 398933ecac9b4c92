"""Sizes, colours, markers and lines of all figures.

Sizes fit a two-column paper. The colours are Okabe and Ito's, which people with any kind of colour vision can tell
apart. Methods also differ in markers and lines, for printing in greyscale.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib

COLUMN_IN, PAGE_IN = 3.3, 6.9
"""Widths of one and two columns, in inches."""

BLACK, GREY = "#000000", "#999999"
ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"
SERIES = tuple(zip((BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK), "osD^vP*", strict=True))
"""Colours and markers of series that are not arms, in turn."""

styled = matplotlib.rc_context(
    {
        "font.size": 7,
        "axes.titlesize": 7,
        "axes.labelsize": 7,
        "xtick.labelsize": 6,
        "ytick.labelsize": 6,
        "legend.fontsize": 6,
        "legend.frameon": False,
        "lines.linewidth": 1,
        "lines.markersize": 3.5,
        "errorbar.capsize": 1.5,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.linewidth": 0.3,
        "grid.color": "#dddddd",
    }
)
"""Decorator for drawing functions. It applies the style only to figures that the function makes."""


@dataclass(frozen=True, slots=True)
class Look:
    """Colour, marker and line style of one arm."""

    color: str
    marker: str
    line: str


_OF_METHOD = {
    "dense": Look(BLACK, "o", "-"),
    "prefix": Look(GREY, "v", "--"),
    "naive": Look(ORANGE, "s", ":"),
    "cacheblend": Look(SKY, "P", "-."),
}
_VARIANTS = [
    Look(color, marker, line)
    for line, markers in (("-", "o^DX"), ("--", "s<p>"), (":", "vdh*"))
    for color, marker in zip((BLUE, VERMILION, GREEN, PURPLE), markers, strict=True)
]


def looks(arms: Sequence[str]) -> dict[str, Look]:
    """Return the look of each arm: fixed by method, or in turn for kvcomm variants; the 13th repeats the first."""
    found: dict[str, Look] = {}
    variants = 0
    for arm in dict.fromkeys(arms):
        method = arm.split()[0]
        if arm in _OF_METHOD:
            found[arm] = _OF_METHOD[method]
        else:
            found[arm] = _VARIANTS[variants % len(_VARIANTS)]
            variants += 1
    return found
