"""The figure of the first screen: one dot per cell on three scales, whose style says what its interval shows.

Positions are percentages, so the figure fills any width and its text keeps its size.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from analysis.report.cells import Row
from analysis.report.compared_arms import Comparison
from analysis.report.headline import Finding, finding
from analysis.stats import Estimate
from harness.text import displayed

_NOMINAL = 560.0
"""Width in pixels for which dots are set apart."""
_DOT, _GAP, _AXIS = 4.3, 9.5, 24.0
_MOST_ROWS = 14
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, math.inf)
_STYLES: dict[Finding, str] = {"above": "better", "below": "worse", "none": "open", "few": "few"}


@dataclass(frozen=True, slots=True)
class Scale:
    """One quantity of the figure."""

    title: str
    of: Callable[[Comparison], Estimate | None]
    even: float
    """The value of no difference."""
    log: bool
    number: Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Strip:
    """The dots of one quantity."""

    title: str
    svg: Markup
    n: int


def _signed(value: float) -> str:
    return f"{value:+.3g}".replace("-", "\N{MINUS SIGN}") if value else "0"


SCALES = (
    Scale("Whole items, times as fast as dense", lambda arm: arm.latency_gain, 1.0, True, "{:.3g}x".format),
    Scale(
        "First tokens of an item, times as fast as dense", lambda arm: arm.ttft_sum_gain, 1.0, True, "{:.3g}x".format
    ),
    Scale("Accuracy minus dense, points", lambda arm: arm.change, 0.0, False, _signed),
)


def strips(rows: Sequence[Row]) -> list[Strip]:
    """Return the strips that have dots."""
    found = []
    for scale in SCALES:
        known = [(row, one) for row in rows if (one := scale.of(row.arm)) is not None]
        if known:
            svg = Markup(_strip(scale, known))  # noqa: S704 - all text in it is escaped
            found.append(Strip(scale.title, svg, len(known)))
    return found


def _strip(scale: Scale, known: Sequence[tuple[Row, Estimate]]) -> str:
    values = [one.value for _, one in known]
    low, high = min(*values, scale.even), max(*values, scale.even)
    place = _place(scale, low, high)
    lines = _stacked([place(value) for value in values])
    height = _GAP * (max(lines) + 1) + 8 + _AXIS
    base = height - _AXIS
    parts = [
        f'<line class="rule" x1="0" x2="100%" y1="{base:g}" y2="{base:g}"/>',
        f'<line class="even" x1="{place(scale.even):.2f}%" x2="{place(scale.even):.2f}%" y1="0" y2="{base + 5:g}"/>',
    ]
    for tick in _ticks(scale, low, high):
        at, label = place(tick), escape(scale.number(tick))
        parts.append(f'<text class="middle" x="{at:.2f}%" y="{base + 18:g}">{label}</text>')
    for (row, one), line in zip(known, lines, strict=True):
        style = _STYLES[finding(one, scale.even)]
        name = escape(displayed(f"{row.name}: {_spelled(scale, one)}"))
        y = base - 8 - _GAP * line
        parts.append(f'<circle class="{style}" cx="{place(one.value):.2f}%" cy="{y:g}" r="{_DOT:g}">'
                     f"<title>{name}</title></circle>")  # fmt: skip
    span = f"{scale.number(min(values))} to {scale.number(max(values))}"
    label = escape(f"{scale.title}: {len(known)} cells from {span}")
    return f'<svg class="strip" width="100%" height="{height:g}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _place(scale: Scale, low: float, high: float) -> Callable[[float], float]:
    """Return the map from values to percent of the width, with a margin for half of a label."""
    to = math.log if scale.log else float
    start, span = to(low), to(high) - to(low)
    return lambda value: 4 + 92 * (to(value) - start) / span if span else 50.0


def _stacked(places: Sequence[float]) -> list[int]:
    """Return a line for each dot, from 0, so that dots do not overlap; the last line takes what is left."""
    ends = [-math.inf] * _MOST_ROWS
    lines = [0] * len(places)
    for index in sorted(range(len(places)), key=lambda index: places[index]):
        x = places[index] * _NOMINAL / 100
        free = (line for line, end in enumerate(ends) if x - end >= 2 * _DOT + 1)
        lines[index] = next(free, _MOST_ROWS - 1)
        ends[lines[index]] = x
    return lines


def _ticks(scale: Scale, low: float, high: float) -> list[float]:
    """Return round values within a range, "no difference" always among them."""
    if not scale.log:
        step = next(size for size in _STEPS if (high - low) / size <= 6)
        return [step * index for index in range(math.ceil(low / step), math.floor(high / step) + 1)]
    if high / low < 2:
        step = next(size for size in _STEPS if (high - low) / size <= 6)
        ticks = [1 + step * index for index in range(-100, 100)]
    else:
        bases = (1, 2, 5) if high / low < 100 else (1,)
        ticks = [base * 10.0**power for power in range(-3, 5) for base in bases]
    return [tick for tick in ticks if low - 1e-9 <= tick <= high + 1e-9] or [scale.even]


def _spelled(scale: Scale, one: Estimate) -> str:
    if one.low is None or one.high is None:
        return f"{scale.number(one.value)}, too few items for an interval"
    return f"{scale.number(one.value)} (95 % interval {scale.number(one.low)} to {scale.number(one.high)})"
