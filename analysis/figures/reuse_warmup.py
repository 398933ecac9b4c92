"""Reuse against the samples seen so far, while the pools warm up."""

import numpy as np
import pandas as pd

from analysis import stats
from analysis.figures.parts.drawing import (
    Drawn,
    Mark,
    NothingToDrawError,
    columns_of,
    draw_lines,
    exactly,
    finished,
    panels_of,
    whole_numbers,
)
from analysis.figures.parts.styles import styled
from analysis.results import Results
from analysis.tables.sweep_table import graded_arms

_BLOCKS = 10


@styled
def reuse_warmup(results: Results) -> list[Drawn]:
    """Draw the share of reused prompt tokens in at most ten blocks of samples, for arms that have pools."""
    marks, data = [], []
    for cell, arm in graded_arms(results).items():
        turns = arm.turns
        if turns.empty or turns["anchors_in_pool"].isna().all():
            continue
        indices = turns["sample_index"].to_numpy(dtype=int)
        edges = np.linspace(0, indices.max() + 1, min(_BLOCKS, int(indices.max()) + 1) + 1)
        for _, group in turns.groupby(np.searchsorted(edges, indices, side="right")):
            reuse = stats.ratio_of_sums(group["reused_tokens"], group["prompt_tokens"], group["item"]).scaled(100)
            first, last = int(group["sample_index"].min()), int(group["sample_index"].max())
            marks.append(Mark(cell.situation, cell.method, exactly((first + last) / 2), reuse))
            row = {"panel": cell.situation, "arm": cell.method, "first_sample": first, "last_sample": last}
            data.append({**row, **columns_of("reuse_percent", reuse)})
    if not marks:
        raise NothingToDrawError("needs a graded trial of kvcomm; kvcomm run smoke makes them")
    figure, panels = panels_of(marks, 2.2, lines=True)
    named: set[str] = set()
    for panel in panels:
        named |= draw_lines(panel)
        panel.ax.set_ylabel("prompt tokens reused (%)")
        panel.ax.set_ylim(-3, 103)
        whole_numbers(panel.ax, "samples seen before")
    return [finished("reuse_warmup", pd.DataFrame(data), figure, panels=panels, named=named)]
