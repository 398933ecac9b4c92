"""The arena as a picture: KL to dense against the share of the prompt tokens that were computed, with the front."""

import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter

from analysis.arena.rows import ArenaRow, arena_rows, entries_of, front_of
from analysis.figures.parts.drawing import Drawn, Mark, NothingToDrawError, columns_of, finished, panels_of
from analysis.figures.parts.scatter import draw_front, draw_intervals, draw_limit, place_marks
from analysis.figures.parts.styles import styled
from analysis.results import Results

_LEAST = 1e-7
"""Nats below which a KL is rounding, and has no place on the axis."""


@styled
def kl_computed(results: Results) -> list[Drawn]:
    """Draw a panel for each situation of one sweep. Both axes are logarithmic, so an exact prefix cache is a vertical
    line: methods to its right compute more, and are not exact. Bounds are hollow, and not on the front."""
    every = arena_rows(entries_of(results), results.turns)
    rows = [row for row in every if _has_place(row)]
    if len({row.arm for row in rows}) < 2:
        raise NothingToDrawError(
            "needs trials of two reusing methods with fidelity 1; kvcomm run sweeps/fidelity.yaml makes them"
        )
    marks = [
        Mark(row.situation, row.arm, row.computed_share.scaled(100), row.kl_next_token)
        for row in rows
        if row.computed_share is not None and row.kl_next_token is not None
    ]
    figure, panels = panels_of(marks, 2.8, lines=False)
    for panel in panels:
        ax = panel.ax
        draw_intervals(panel)
        own = [row for row in every if row.situation == panel.name and (_has_place(row) or _is_exact_cache(row))]
        exact = min((_point(row)[0] for row in own if row.kind == "exact"), default=None)
        most = max(_point(row)[0] for row in own if row.kind != "exact")
        draw_front(ax, [_point(own[index]) for index in front_of(own)], most if exact is None else exact)
        if exact is not None:
            draw_limit(ax, exact, "exact prefix cache: KL 0")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.margins(x=0.25, y=0.1)
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
    drawn = finished("kl_computed", pd.DataFrame(data), figure)
    place_marks(panels, hollow={row.arm for row in rows if row.kind == "bound"})
    return [drawn]


def _has_place(row: ArenaRow) -> bool:
    """Return whether the arm can be drawn: it reuses inexactly, and both its numbers are known."""
    known = row.computed_share is not None and row.kl_next_token is not None
    return row.kind != "exact" and known and row.kl_next_token is not None and row.kl_next_token.value > _LEAST


def _is_exact_cache(row: ArenaRow) -> bool:
    return row.kind == "exact" and row.computed_share is not None and row.kl_next_token is not None


def _point(row: ArenaRow) -> tuple[float, float]:
    assert row.computed_share is not None  # noqa: S101 - what is drawn has both
    assert row.kl_next_token is not None  # noqa: S101
    return 100 * row.computed_share.value, row.kl_next_token.value
