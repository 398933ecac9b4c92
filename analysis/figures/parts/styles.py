"""Sizes, fonts and colours of all figures, for the places they are printed in.

A style is set once, around the drawing of figures: ``with in_style("slides"): ...``. Like matplotlib's own settings,
it is not handed from function to function. The colours are Okabe and Ito's, which people with any kind of colour vision
can tell apart; looks.py says which arm has which.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import matplotlib

BLACK, GREY = "#000000", "#999999"
ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"
SERIES = tuple(zip((BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK), "osD^vP*", strict=True))
"""Colours and markers of series that are not arms, in turn."""

_USUAL_POINTS = 7.0

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Style:
    """Where figures are printed. Figures have these sizes already, so that nobody scales their text."""

    column_in: float
    """Width of a figure with one panel, in inches."""
    page_in: float
    """Width of a figure with several panels, in inches."""
    text_points: float
    """Size of titles and of the names of axes, in points."""
    height: float
    """Factor of the panels' heights."""

    @property
    def small_points(self) -> float:
        """Size of tick labels, legends and labels in the panels, in points."""
        return 6 / _USUAL_POINTS * self.text_points

    @property
    def strokes(self) -> float:
        """Factor of widths of lines and sizes of marks."""
        return self.text_points / _USUAL_POINTS

    def settings(self) -> dict[str, Any]:
        """Return matplotlib's settings."""
        return {
            "font.family": "DejaVu Sans",  # matplotlib brings it, so that sizes are the same everywhere
            "font.size": self.text_points,
            "axes.titlesize": self.text_points,
            "axes.labelsize": self.text_points,
            "xtick.labelsize": self.small_points,
            "ytick.labelsize": self.small_points,
            "legend.fontsize": self.small_points,
            "legend.frameon": False,
            "lines.linewidth": self.strokes,
            "lines.markersize": 3.5 * self.strokes,
            "errorbar.capsize": 1.5 * self.strokes,
            "axes.linewidth": 0.6 * self.strokes,
            "xtick.major.width": 0.6 * self.strokes,
            "ytick.major.width": 0.6 * self.strokes,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.linewidth": 0.3 * self.strokes,
            "grid.color": "#dddddd",
        }


STYLES = {
    "acm": Style(3.33, 7.0, _USUAL_POINTS, 1.0),
    "neurips": Style(2.7, 5.5, _USUAL_POINTS, 0.9),
    "slides": Style(6.4, 12.3, 15.0, 1.9),
}
"""Two-column papers; one-column papers, where a single panel takes half of the text's width; slides of 13.3 inches."""
DEFAULT_STYLE = "acm"

_current: ContextVar[Style] = ContextVar("style", default=STYLES[DEFAULT_STYLE])


def style() -> Style:
    """Return the style in which figures are drawn now."""
    return _current.get()


@contextmanager
def in_style(name: str) -> Iterator[None]:
    """Draw figures in a style. Raises ``KeyError`` if there is none of this name."""
    token = _current.set(STYLES[name])
    try:
        yield
    finally:
        _current.reset(token)


def styled(draw: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Decorate a drawing function: the style's settings apply only to figures that it makes."""

    @wraps(draw)
    def drawing(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        with matplotlib.rc_context(style().settings()):  # type: ignore[arg-type] # its keys are names, not text
            return draw(*args, **kwargs)

    return drawing
