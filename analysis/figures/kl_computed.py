"""The arena as a picture: KL to dense against the share of the prompt tokens that were computed, with the front."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from analysis.arena.rows import ArenaRow, arena_rows, entries_of, front_of
from analysis.figures.drawing import Drawn, Mark, NothingToDrawError, columns_of, draw_marks, panels_of, short
from analysis.figures.styles import GREY, Look, styled
from analysis.results import Results

_LABEL_POINTS = 5.0
_LEAST = 1e-7
"""Nats below which a KL is rounding, and has no place on the axis."""


@styled
def kl_computed(results: Results) -> list[Drawn]:
    """Draw a panel for each situation of one sweep. Both axes are logarithmic, so exact arms are left out. Bounds are
    hollow, and not on the front."""
    rows = [row for row in arena_rows(entries_of(results), results.turns) if _has_place(row)]
    if len({row.arm for row in rows}) < 2:
        raise NothingToDrawError(
            "needs trials of two reusing methods with fidelity 1; kvcomm run sweeps/fidelity.yaml makes them"
        )
    marks = [
        Mark(row.situation, row.arm, row.computed_share.scaled(100), row.kl_next_token)
        for row in rows
        if row.computed_share is not None and row.kl_next_token is not None
    ]
    figure, panels, look = panels_of(marks, 2.8)
    situations = dict.fromkeys(row.situation for row in rows)
    for (ax, by_arm), situation in zip(panels, situations, strict=True):
        own = [row for row in rows if row.situation == situation]
        bounds = {row.arm for row in own if row.kind == "bound"}
        for arm, (mark,) in by_arm.items():
            _draw(ax, mark, look[arm], hollow=arm in bounds)
        _draw_front(ax, [own[index] for index in front_of(own)])
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.margins(x=0.25, y=0.1)
        _label(ax, [mark for (mark,) in by_arm.values()], look)
        ax.set_xlabel("prompt tokens computed (%)")
        ax.set_ylabel("KL to dense, first token (nats)")
    data = [
        {
            "panel": mark.panel,
            "arm": mark.arm,
            "kind": row.kind,
            **columns_of("computed_percent", mark.x),
            **columns_of("kl_nats", mark.y),
            "on_front": row.on_front,
        }
        for mark, row in zip(marks, rows, strict=True)
        if mark.x is not None
    ]
    return [Drawn("kl_computed", pd.DataFrame(data), figure)]


def _has_place(row: ArenaRow) -> bool:
    """Return whether the arm can be drawn: it reuses inexactly, and both its numbers are known."""
    known = row.computed_share is not None and row.kl_next_token is not None
    return row.kind != "exact" and known and row.kl_next_token is not None and row.kl_next_token.value > _LEAST


def _draw(ax: Axes, mark: Mark, look: Look, *, hollow: bool) -> None:
    assert mark.x is not None  # noqa: S101 - all of them have a place
    draw_marks(ax, [mark], look, joined=False)
    if hollow:
        ax.lines[-1].set_markerfacecolor("white")


def _label(ax: Axes, marks: Sequence[Mark], look: Mapping[str, Look]) -> None:
    """Write each arm's name beside its mark, from the top, and lower where it would cover another name."""
    points_per_pixel = 72 / ax.figure.dpi
    taken: list[tuple[float, float, float]] = []  # left and right end, and height, in points
    for mark in sorted(marks, key=lambda mark: -mark.y.value):
        assert mark.x is not None  # noqa: S101 - all of them have a place
        at = mark.x.value, mark.y.value
        x, y = (float(pixels) * points_per_pixel for pixels in ax.transData.transform(at))
        right, height = x + 3 + 0.55 * _LABEL_POINTS * len(short(mark.arm)), y + 3
        while any(left < right and x < end and abs(height - other) < _LABEL_POINTS for left, end, other in taken):
            height -= 1
        taken.append((x, right, height))
        ax.annotate(
            short(mark.arm),
            at,
            (3, height - y),
            textcoords="offset points",
            fontsize=_LABEL_POINTS,
            color=look[mark.arm].color,
        )


def _draw_front(ax: Axes, rows: list[ArenaRow]) -> None:
    points = [
        (100 * row.computed_share.value, row.kl_next_token.value)
        for row in rows
        if row.computed_share is not None and row.kl_next_token is not None
    ]
    if points:
        xs, ys = zip(*points, strict=True)
        ax.step(xs, ys, where="post", color=GREY, linestyle="--", zorder=0)
