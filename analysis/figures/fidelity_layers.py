"""Keys and values of any method against dense ones, by layer; figure_a12.py draws the paper's version."""

import pandas as pd

from analysis import stats
from analysis.figures.drawing import (
    Drawn,
    NothingToDrawError,
    columns_of,
    legend_below,
    looks,
    panels,
    short,
    shown,
    situation,
    slug,
    styled,
    whole_numbers,
)
from analysis.results import Results
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
        for (agent, part, layer), group in own.groupby(["agent_index", "part", "layer"]):
            means = {
                name: stats.ratio_of_sums(group[name] * group["tokens"], group["tokens"], group["sample_index"])
                for name, _ in _MEASURES
            }
            place = {"panel": situation(cell), "arm": cell.method, "agent": agent, "part": part, "layer": layer}
            rows.append({**place, **means})
    if not rows:
        raise NothingToDrawError("needs trials with fidelity above 0; kvcomm run sweeps/fidelity.yaml makes them")
    frame = pd.DataFrame(rows)
    return [
        _draw(str(name), int(str(agent)), group)
        for (name, agent), group in frame.groupby(["panel", "agent"], sort=False)
    ]


def _draw(name: str, agent: int, rows: pd.DataFrame) -> Drawn:
    look = looks(list(rows["arm"]))
    figure, axes = panels(4, 1.9)
    places = [(part, measure, label) for measure, label in _MEASURES for part in ("keys", "values")]
    for ax, (part, measure, label) in zip(axes, places, strict=True):
        for arm, own in rows[rows["part"] == part].groupby("arm", sort=False):
            mark, estimates, layers = look[str(arm)], list(own[measure]), list(own["layer"])
            ax.plot(layers, [e.value for e in estimates], color=mark.color, linestyle=mark.line, label=short(str(arm)))
            if all(e.low is not None for e in estimates):
                low, high = ([getattr(e, end) for e in estimates] for end in ("low", "high"))
                ax.fill_between(layers, low, high, color=mark.color, alpha=0.15, linewidth=0)
        ax.set_title(part)
        ax.set_xlabel("layer")
        ax.set_ylabel(label)
        whole_numbers(ax)
    figure.suptitle(shown(f"{name}: agent {agent}"), fontsize=7)
    legend_below(figure)
    data = pd.DataFrame(
        [
            {
                **row.drop(labels=[m for m, _ in _MEASURES]).to_dict(),
                **columns_of("cosine", row["cosine"]),
                **columns_of("l2_error", row["l2_error"]),
            }
            for _, row in rows.iterrows()
        ]
    )
    return Drawn(f"fidelity_layers_{slug(name)}_agent_{agent}", data, figure)
