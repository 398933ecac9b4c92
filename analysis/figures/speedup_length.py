"""Speedup of the time to the first token against prompt length."""

from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter

from analysis import stats
from analysis.arms import arms_of
from analysis.figures.parts.drawing import (
    Drawn,
    Mark,
    NothingToDrawError,
    columns_of,
    draw_lines,
    exactly,
    finished,
    panels_of,
)
from analysis.figures.parts.styles import GREY, styled
from analysis.results import Results
from harness.cells import Cell

_MOST_POINTS = 12
_BINS = 6


@styled
def speedup_length(results: Results) -> list[Drawn]:
    """Draw the median paired ratios of dense TTFT to TTFT over the turns that reuse anything.

    Each workload and number of agents has a panel. If prompts have more than 12 lengths, they are grouped into six bins
    with about equally many turns, each drawn at its median length.
    """
    marks = []
    for cell, arm in arms_of(results).by_cell(results.ok_trials).items():
        pairs = arm.paired_turns()
        if not cell.method.startswith("dense") and not pairs.empty:
            for _, group in pairs.groupby(_bins(pairs["prompt_tokens"])):
                ratio = stats.paired_ratio(group["ttft_s_dense"], group["ttft_s"], group["item"])
                marks.append(Mark(_panel(cell), _line(cell), exactly(float(group["prompt_tokens"].median())), ratio))
    if not marks:
        raise NothingToDrawError("needs trials of dense and of another method; kvcomm run smoke makes them")
    figure, panels = panels_of(marks, 2.4, lines=True)
    named: set[str] = set()
    for panel in panels:
        ax = panel.ax
        ax.axhline(1, color=GREY, linewidth=0.6)
        named |= draw_lines(panel)
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}x")
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel("prompt length (tokens)")
        ax.set_ylabel("speedup, dense TTFT / TTFT")
    data = [
        {"panel": m.panel, "arm": m.arm, "prompt_tokens": m.x.value if m.x else None, **columns_of("speedup", m.y)}
        for m in marks
    ]
    return [finished("speedup_length", pd.DataFrame(data), figure, panels=panels, named=named)]


def _bins(lengths: "pd.Series[int]") -> "pd.Series[float]":
    """Return the bin of each length; bins are numbered by rising length."""
    if lengths.nunique() <= _MOST_POINTS:
        return lengths.astype("float64")
    inner = np.quantile(lengths.to_numpy(dtype=float), np.linspace(0, 1, _BINS + 1)[1:-1])
    return pd.Series(np.searchsorted(inner, lengths.to_numpy(dtype=float), side="left"), lengths.index).astype(float)


def _panel(cell: Cell) -> str:
    """Name the panel of a cell. Timings with different lengths share a panel and are points of one line."""
    workload = cell.workload.split()[0] if cell.workload.startswith("ttft") else cell.workload
    return replace(cell, workload=workload).situation


def _line(cell: Cell) -> str:
    lengths = cell.workload.partition(" ")[2] if cell.workload.startswith("ttft") else ""
    return f"{cell.method} {lengths}".strip()
