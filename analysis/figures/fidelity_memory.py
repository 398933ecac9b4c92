"""Fidelity against memory: next-token KL to dense prefill over the memory of the anchors."""

import pandas as pd

from analysis import measures
from analysis.figures.drawing import Drawn, Mark, NothingToDrawError, columns_of, draw_marks, finished, panels_of, short
from analysis.figures.styles import styled
from analysis.results import Results
from analysis.tables.sweep_table import graded_arms

_LINEAR_BELOW = 1e-3
"""Nats below which the scale is linear, so that nearly exact methods fit on it."""


@styled
def fidelity_memory(results: Results) -> list[Drawn]:
    """Draw the mean KL of the checked turns over the peak size of all pools; methods without pools get a line."""
    marks = []
    for cell, arm in graded_arms(results).items():
        kl, pools = measures.kl_next_token(arm), measures.pool_gigabytes(arm)
        if kl is not None:
            marks.append(Mark(cell.situation, cell.method, None if pools is None else pools.scaled(1000), kl))
    if all(mark.x is None for mark in marks):
        raise NothingToDrawError(
            "needs kvcomm trials with fidelity above 0; kvcomm run sweeps/fidelity.yaml makes them"
        )
    figure, axes, look = panels_of(marks, 2.4)
    for ax, by_arm in axes:
        for arm_name, (mark,) in by_arm.items():
            if mark.x is not None:
                draw_marks(ax, [mark], look[arm_name], joined=False)
                continue
            color, kl = look[arm_name].color, mark.y
            ax.axhline(kl.value, color=color, linestyle=look[arm_name].line, label=short(arm_name))
            if kl.low is not None and kl.high is not None:
                ax.axhspan(kl.low, kl.high, color=color, alpha=0.12, linewidth=0)
        ax.set_yscale("symlog", linthresh=_LINEAR_BELOW)
        ax.set_ylim(bottom=-_LINEAR_BELOW / 4)
        ax.margins(x=0.1)
        ax.set_xlim(left=0)
        ax.set_xlabel("memory of all pools (MB)")
        ax.set_ylabel("KL to dense, next token (nats)")
    data = [
        {
            "panel": mark.panel,
            "arm": mark.arm,
            "pool_mb": None if mark.x is None else mark.x.value,
            **columns_of("kl_nats", mark.y),
        }
        for mark in marks
    ]
    return [finished("fidelity_memory", pd.DataFrame(data), figure)]
