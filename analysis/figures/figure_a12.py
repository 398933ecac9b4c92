"""The paper's figure A.12: approximated against true keys and values, by layer, agent and estimator."""

import json

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.fidelity_layers import means_by_layer
from analysis.figures.parts.drawing import (
    Drawn,
    NothingToDrawError,
    columns_of,
    draw_band,
    finished,
    panels,
    slug,
    whole_numbers,
)
from analysis.figures.parts.labels import NAME, ink
from analysis.figures.parts.looks import Look
from analysis.figures.parts.styles import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION, style, styled
from analysis.paper.printed_numbers import load_paper
from analysis.results import Results
from harness.cells import method_fields

_ARMS = {
    "l2_norm": Look(BLUE, "o", "-"),
    "cosine": Look(GREEN, "D", "--"),
    "nearest": Look(VERMILION, "^", "-"),
    "plain reuse": Look(ORANGE, "s", ":"),
}
_OURS = {"mean": Look(PURPLE, "X", "-."), "upstream": Look(GREY, "v", "-.")}
"""Estimators that are not in the paper's figure."""
_PAPER = {"l2_norm": "paper, l2_norm", "plain reuse": "paper, plain reuse: below"}
"""Names of the paper's lines, which stand beside them."""
_ROWS = (("cosine", "keys"), ("cosine", "values"), ("l2_error", "keys"), ("l2_error", "values"))
_LABELS = {"cosine": "cosine similarity", "l2_error": "mean L2 error"}
_TURN = ["sample_index", "round", "agent_index"]


@styled
def figure_a12(results: Results) -> list[Drawn]:
    """Draw a figure for each setting that compares an estimator with another or with plain reuse.

    Rows are the cosine and error of keys and values; columns are the agents.
    The lines of an agent cover the turns that every arm reused; bands are 95 % intervals over the samples. The legend
    names the paper's arms that were not run.
    """
    drawn, unshared = [], []
    for name, trials in _settings(results).items():
        own = results.fidelity.merge(trials[["trial_id", "arm"]], on="trial_id")
        arms = [arm for arm in (*_ARMS, *_OURS) if arm in set(own["arm"])]
        shared = own[own.groupby(_TURN)["arm"].transform("nunique") == len(arms)]
        if len(arms) > 1 and shared.empty:
            unshared.append(f"{name}: no turn was reused by all of {', '.join(arms)}; more samples would help")
        elif len(arms) > 1:
            drawn.append(_draw(name, arms, shared))
    if not drawn:
        raise NothingToDrawError(
            "; ".join(unshared)
            or "needs trials of two estimators, or of one and naive, with fidelity above 0; kvcomm run "
            "sweeps/paper/figure_a12.yaml makes them"
        )
    return drawn


def _settings(results: Results) -> dict[str, pd.DataFrame]:
    """Return the trials and their arms by workload, agents and other kvcomm parameters; naive joins every setting."""
    found: dict[str, list[dict[str, str]]] = {}
    plain: dict[str, list[str]] = {}
    specs = [
        (str(trial_id), json.loads(text))
        for trial_id, text, status in zip(
            results.trials["trial_id"], results.trials["spec_json"], results.trials["status"], strict=True
        )
        if status == "ok"
    ]
    names: dict[str, str] = {}
    for trial_id, spec in specs:
        method, left_out = spec["method"], method_fields(spec) | {"seed"}
        shared = json.dumps({key: value for key, value in spec.items() if key not in left_out}, sort_keys=True)
        names[shared] = f"{spec['model']}, {spec['workload']['name']}, {spec['agents']} agents"
        if method == "naive":
            plain.setdefault(shared, []).append(trial_id)
        elif method == "kvcomm":
            estimator = spec["kvcomm"].pop("estimator")
            own = json.dumps(spec["kvcomm"], sort_keys=True)
            found.setdefault(f"{shared}\n{own}", []).append({"trial_id": trial_id, "arm": estimator})
    settings: dict[str, pd.DataFrame] = {}
    for key, rows in found.items():
        shared = key.partition("\n")[0]
        name, number = names[shared], 2
        while name in settings:
            name, number = f"{names[shared]} ({number})", number + 1
        rows += [{"trial_id": trial_id, "arm": "plain reuse"} for trial_id in plain.get(shared, [])]
        settings[name] = pd.DataFrame(rows)
    return settings


def _draw(name: str, arms: list[str], shared: pd.DataFrame) -> Drawn:
    agents = sorted(int(agent) for agent in shared["agent_index"].unique())
    figure, axes = panels(len(_ROWS) * len(agents), 1.25, columns=max(2, len(agents)))
    data = []
    for index, ax in enumerate(axes):
        (measure, part), agent = _ROWS[index // len(agents)], agents[index % len(agents)]
        own = shared[(shared["agent_index"] == agent) & (shared["part"] == part)]
        for arm in arms:
            estimates = means_by_layer(own[own["arm"] == arm], measure)
            look = {**_ARMS, **_OURS}[arm]
            draw_band(ax, estimates, look.color, look.line, arm)
            place = {"agent": agent, "part": part, "measure": measure, "arm": arm}
            data += [{**place, "layer": layer, **columns_of("value", e)} for layer, e in estimates.items()]
        if measure == "cosine":
            _paper_lines(ax, part)
        for missing in (arm for arm in _ARMS if arm not in arms):
            ax.plot([], [], color=_ARMS[missing].color, linestyle="", marker="x", label=f"{missing}: not run")
            data.append({"agent": agent, "part": part, "measure": measure, "arm": missing})
        turns = own.drop_duplicates(_TURN)
        ax.set_title(f"agent {agent}, {part}" + (f", {len(turns)} turns" if index < len(agents) else ""))
        if index % len(agents) == 0:
            ax.set_ylabel(_LABELS[measure])
        whole_numbers(ax, "layer" if index // len(agents) == len(_ROWS) - 1 else "")
    return finished(f"figure_a12_{slug(name)}", pd.DataFrame(data), figure, name, named=_PAPER.values())


def _paper_lines(ax: Axes, part: str) -> None:
    printed = load_paper().figure_numbers["A.12"]
    ours = printed.value("cosine", method="kvcomm", estimator="l2_norm", part=part)
    most = printed.value("cosine_below", method="naive", part=part)
    for value, arm in ((ours, "l2_norm"), (most, "plain reuse")):
        if value is not None:
            color, label = _ARMS[arm].color, _PAPER[arm]
            ax.axhline(value, color=color, linestyle=(0, (1, 2)), linewidth=0.8, label=label)
            ax.annotate(
                label, (0.02, value), (0, 1.5), xycoords=("axes fraction", "data"), textcoords="offset points",
                fontsize=style().small_points, color=ink(color), gid=NAME,
            )  # fmt: skip
