"""The paper's figure A.3: use of the anchors against their length, by placeholder."""

from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from analysis.figures.parts.drawing import Drawn, NothingToDrawError, finished, panels, slug, whole_numbers
from analysis.figures.parts.styles import SERIES, styled
from analysis.results import Results
from analysis.short_names import short_names
from analysis.tables.sweep_table import graded_arms

_BINS = 12


@styled
def figure_a3(results: Results) -> list[Drawn]:
    """Draw a figure for each kvcomm cell of one sweep.

    Each mark is an anchor that a pool held when the trial ended. Histograms show the number of anchors by length and by
    activations, for each placeholder.
    """
    drawn, arms = [], graded_arms(results)
    methods = short_names(cell.method for cell in arms)  # long names make files that some systems refuse
    for cell, arm in arms.items():
        own = results.anchors[results.anchors["trial_id"].isin(set(arm.trials["trial_id"]))]
        if not own.empty:
            drawn.append(_draw(str(replace(cell, method=methods[cell.method])), own))
    if not drawn:
        raise NothingToDrawError(
            "needs a graded trial of kvcomm that ended with anchors; kvcomm run sweeps/paper/figure_a3.yaml makes one"
        )
    return drawn


def _draw(name: str, rows: pd.DataFrame) -> Drawn:
    figure, (scatter, lengths, counts) = panels(3, 2.0, columns=3)
    names = ["placeholder", "tokens", "activations", "weight", "readers", "age_rank", "shard"]
    data = rows[names].sort_values(["placeholder", "shard", "age_rank"]).reset_index(drop=True)
    groups = [(str(placeholder), own) for placeholder, own in data.groupby("placeholder")]
    # User questions come first, as in a prompt.
    groups.sort(key=lambda group: (group[0] != "user_question", group[0]))
    looks = [SERIES[index % len(SERIES)] for index in range(len(groups))]
    for (placeholder, own), (color, marker) in zip(groups, looks, strict=True):
        x, y = own["tokens"].astype(float), own["activations"].astype(float)
        label = f"{placeholder} ({len(own)})"
        scatter.plot(x, y, label=label, linestyle="", marker=marker, color=color, fillstyle="none", clip_on=False)
    for ax, column in ((lengths, "tokens"), (counts, "activations")):
        values = [own[column].to_numpy(dtype=float) for _, own in groups]
        edges = _whole_edges(np.concatenate(values))
        ax.hist(values, bins=list(edges), color=[color for color, _ in looks], stacked=True)
        ax.set_ylabel("anchors")
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    scatter.set_ylabel("activations")
    scatter.set_ylim(bottom=0)
    for ax in (scatter, lengths, counts):
        whole_numbers(ax, "activations" if ax is counts else "anchor length (tokens)")
    return finished(f"figure_a3_{slug(name)}", data, figure, name)


def _whole_edges(values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> list[float]:
    """Return the edges of at most twelve bins that each hold the same number of whole numbers."""
    low, high = int(values.min()), int(values.max())
    width = max(1, -(-(high - low + 1) // _BINS))
    return [low - 0.5 + width * index for index in range(-(-(high - low + 1) // width) + 1)]
