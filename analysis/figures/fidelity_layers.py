"""Keys and values of any method against dense ones, by layer; figure_a12.py draws the paper's version."""

import numpy as np
import pandas as pd

from analysis import stats
from analysis.figures.parts.drawing import (
    MOST_LINES_IN_LEGEND,
    Drawn,
    NothingToDrawError,
    columns_of,
    draw_band,
    finished,
    panels,
    slug,
    whole_numbers,
)
from analysis.figures.parts.labels import label_ends, shown
from analysis.figures.parts.looks import Look, looks
from analysis.figures.parts.styles import styled
from analysis.results import Results
from analysis.short_names import short_names
from analysis.tables.sweep_table import graded_arms

_MEASURES = (("cosine", "cosine similarity"), ("l2_error", "mean L2 error"))


@styled
def fidelity_layers(results: Results) -> list[Drawn]:
    """Draw a figure for each workload and agent of one sweep.

    The mean of a layer is over the tokens of the checked turns, in both kinds of segment. The band is its interval,
    which keeps the turns of a sample together.
    """
    rows = []
    for cell, arm in graded_arms(results).items():
        own = results.fidelity[results.fidelity["trial_id"].isin(set(arm.trials["trial_id"]))]
        for (agent, part), group in own.groupby(["agent_index", "part"]):
            means = {name: means_by_layer(group, name) for name, _ in _MEASURES}
            place = {"panel": cell.situation, "arm": cell.method, "agent": agent, "part": part}
            rows += [
                {**place, "layer": layer, **{name: by_layer[layer] for name, by_layer in means.items()}}
                for layer in means["cosine"]
            ]
    if not rows:
        raise NothingToDrawError("needs trials with fidelity above 0; kvcomm run sweeps/fidelity.yaml makes them")
    frame = pd.DataFrame(rows)
    return [
        _draw(str(name), int(str(agent)), group)
        for (name, agent), group in frame.groupby(["panel", "agent"], sort=False)
    ]


def means_by_layer(fidelity: pd.DataFrame, measure: str) -> dict[int, stats.Estimate]:
    """Return the mean of each layer over the tokens of both kinds of segment."""
    layer_N, samples_N = (fidelity[name].to_numpy(dtype=int) for name in ("layer", "sample_index"))
    value_N, tokens_N = (fidelity[name].to_numpy(dtype=float) for name in (measure, "tokens"))
    found = {}
    for layer in np.unique(layer_N):
        own = layer_N == layer
        found[int(layer)] = stats.ratio_of_sums(value_N[own] * tokens_N[own], tokens_N[own], samples_N[own])
    return found


def _draw(name: str, agent: int, rows: pd.DataFrame) -> Drawn:
    look, names = looks(list(rows["arm"])), short_names(rows["arm"])
    figure, axes = panels(4, 1.9)
    many = len(names) > MOST_LINES_IN_LEGEND
    places = [(part, measure, label) for measure, label in _MEASURES for part in ("keys", "values")]
    for ax, (part, measure, label) in zip(axes, places, strict=True):
        ends = {}
        for arm, own in rows[rows["part"] == part].groupby("arm", sort=False):
            by_layer, (color, line) = dict(zip(own["layer"], own[measure], strict=True)), _ink(look[str(arm)])
            draw_band(ax, by_layer, color, line, shown(names[str(arm)]))
            ends[names[str(arm)]] = (max(by_layer), by_layer[max(by_layer)].value, color)
        if many and part == "values":
            label_ends(ax, ends)
        ax.set_title(part)
        ax.set_ylabel(label)
        whole_numbers(ax, "layer")
    estimates = ((row.pop("cosine"), row.pop("l2_error"), row) for row in rows.to_dict("records"))
    data = [{**row, **columns_of("cosine", c), **columns_of("l2_error", error)} for c, error, row in estimates]
    file, title = f"fidelity_layers_{slug(name)}_agent_{agent}", f"{name}: agent {agent}"
    return finished(file, pd.DataFrame(data), figure, title, named=names.values() if many else ())


def _ink(look: Look) -> tuple[str, str]:
    return look.color, look.line
