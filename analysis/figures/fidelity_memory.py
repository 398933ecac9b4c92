"""Fidelity against memory: next-token KL to dense prefill over the memory of the anchors."""

import pandas as pd
from matplotlib.ticker import LogFormatter, LogLocator

from analysis import measures
from analysis.figures.parts.drawing import Drawn, Mark, NothingToDrawError, Panel, columns_of, finished, panels_of
from analysis.figures.parts.labels import shown
from analysis.figures.parts.scatter import draw_front, draw_intervals, pareto_front, place_marks
from analysis.figures.parts.styles import style, styled
from analysis.results import Results
from analysis.tables.sweep_table import graded_arms

_LINEAR_BELOW = 1e-3
"""Nats below which the scale is linear, so that nearly exact methods fit on it."""


@styled
def fidelity_memory(results: Results) -> list[Drawn]:
    """Draw the mean KL of the checked turns over the peak size of all pools, in panels with two arms or more.

    Methods without pools get a line, since they have no memory to speak of. The Pareto front is that of the points.
    """
    marks: dict[str, list[Mark]] = {}
    for cell, trials in graded_arms(results).items():
        kl, pools = measures.kl_next_token(trials), measures.pool_gigabytes(trials)
        if kl is not None:
            mark = Mark(cell.situation, cell.method, None if pools is None else pools.scaled(1000), kl)
            marks.setdefault(cell.situation, []).append(mark)
    compared = [own for own in marks.values() if len(own) > 1 and any(mark.x is not None for mark in own)]
    if not compared:
        raise NothingToDrawError(
            "needs two methods or variants with fidelity above 0, one of them kvcomm; kvcomm run sweeps/fidelity.yaml "
            "makes them"
        )
    figure, panels = panels_of([mark for own in compared for mark in own], 2.4, lines=False)
    data = []
    for panel in panels:
        draw_intervals(panel)
        for arm, (mark,) in panel.marks.items():
            if mark.x is None:
                _draw_line(panel, arm, mark)
        points = [(arm, mark.x.value, mark.y.value) for arm, (mark,) in panel.marks.items() if mark.x is not None]
        front = [points[index] for index in pareto_front([(memory, -kl) for _, memory, kl in points])]
        draw_front(panel.ax, [(memory, kl) for _, memory, kl in front], max(memory for _, memory, _ in points))
        on_front = {arm for arm, _, _ in front}
        _scales(panel)
        for arm, (mark,) in panel.marks.items():
            row = {"panel": mark.panel, "arm": arm, "pool_mb": None if mark.x is None else mark.x.value}
            data.append({**row, **columns_of("kl_nats", mark.y), "on_front": arm in on_front})
    drawn = finished("fidelity_memory", pd.DataFrame(data), figure)
    place_marks(panels)
    return [drawn]


def _draw_line(panel: Panel, arm: str, mark: Mark) -> None:
    look, kl = panel.looks[arm], mark.y
    label = f"{shown(panel.names[arm])} (no pools)"
    panel.ax.axhline(kl.value, color=look.color, linestyle=look.line, linewidth=style().strokes, label=label)
    if kl.low is not None and kl.high is not None:
        panel.ax.axhspan(kl.low, kl.high, color=look.color, alpha=0.12, linewidth=0)


def _scales(panel: Panel) -> None:
    """Use the whole height for the KL that there is: logarithmic, and linear below the least that matters."""
    ax, estimates = panel.ax, [mark.y for own in panel.marks.values() for mark in own]
    lowest = min(one.value if one.low is None else one.low for one in estimates)
    if lowest > _LINEAR_BELOW:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=True))
    else:
        ax.set_yscale("symlog", linthresh=_LINEAR_BELOW)
        ax.set_ylim(bottom=-_LINEAR_BELOW / 4)
    ax.margins(y=0.1)
    ax.set_xlim(0, 1.3 * max(mark.x.value for own in panel.marks.values() for mark in own if mark.x is not None))
    ax.set_xlabel("memory of all pools (MB)")
    ax.set_ylabel("KL to dense, next token (nats)")
