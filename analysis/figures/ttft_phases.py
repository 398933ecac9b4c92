"""Phases of the time to the first token, as stacked bars by agent and arm."""

import pandas as pd
from matplotlib.axes import Axes

from analysis import stats
from analysis.arms import Arm, arms_of
from analysis.figures.parts.drawing import Drawn, NothingToDrawError, columns_of, finished, panels, slug
from analysis.figures.parts.labels import shown
from analysis.figures.parts.styles import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, styled
from analysis.results import Results
from analysis.short_names import short_names
from analysis.tables.speed_sums import PHASES
from analysis.tables.sweep_table import mean
from harness.cells import Cell

_FILL = {
    "base_kv": (GREEN, ""),
    "match": (ORANGE, "///"),
    "estimate": (SKY, "xxx"),
    "blend": (VERMILION, ""),
    "recompute": (PURPLE, "..."),
    "prefill": (BLUE, ""),
    "rest": (GREY, ""),
}
_NAMES = {"base_kv": "base KV", "prefill": "forward pass"}


@styled
def ttft_phases(results: Results) -> list[Drawn]:
    """Draw a figure for each workload and number of agents of one sweep, with a panel per agent.

    Bars are means, because means add up and medians do not. They cover all turns of the dense arm, and the reusing
    turns of any other arm. The interval is that of the total.
    """
    groups: dict[str, list[tuple[Cell, Arm]]] = {}
    for cell, arm in arms_of(results).by_cell(results.ok_trials).items():
        if not arm.turns.empty:
            groups.setdefault(cell.situation, []).append((cell, arm))
    drawn = []
    for name, arms in groups.items():
        data = pd.DataFrame([row for cell, arm in arms for row in _rows(cell, arm)])
        if data["arm"].nunique() > 1:
            data.insert(0, "panel", name)
            drawn.append(_draw(name, data))
    if not drawn:
        raise NothingToDrawError("needs trials of dense and of another method; kvcomm run smoke makes them")
    return drawn


def _rows(cell: Cell, arm: Arm) -> list[dict[str, object]]:
    own = arm.turns if cell.method.startswith("dense") else arm.reusing
    sources = [(cell.method, own)]
    if cell.workload.startswith("ttft") and not cell.method.startswith("dense"):
        sources.insert(0, (f"dense beside {cell.method}", arm.dense_turns))
        if cell.method != "prefix" and not arm.prefix_turns.empty:
            sources.insert(1, (f"prefix beside {cell.method}", arm.prefix_turns))
    rows: list[dict[str, object]] = []
    for label, turns in sources:
        for agent, of_agent in turns.groupby("agent_index"):
            means = {phase: mean(of_agent[f"phase_{phase}_s"]) for phase in PHASES}
            parts = {phase: None if seconds is None else 1000 * seconds for phase, seconds in means.items()}
            ttft = stats.mean(of_agent["ttft_s"], of_agent["item"]).scaled(1000)
            parts["rest"] = ttft.value - sum(seconds or 0.0 for seconds in parts.values())
            rows.append({"agent": int(str(agent)), "arm": label, **parts, **columns_of("ttft_ms", ttft)})
    return rows


def _draw(name: str, data: pd.DataFrame) -> Drawn:
    agents, arms = sorted(data["agent"].unique()), list(dict.fromkeys(data["arm"]))
    figure, axes = panels(len(agents), 0.9 + 0.16 * len(arms), columns=2 if len(agents) == 4 else 3, shared=True)
    names = {arm: shown(name) for arm, name in short_names(arms).items()}
    for ax, agent in zip(axes, agents, strict=True):
        _bars(ax, data[data["agent"] == agent].set_index("arm").reindex(arms).rename(index=names))
        ax.set_title(f"agent {agent}")
        ax.set_xlabel("mean TTFT (ms)")
        ax.grid(axis="y", visible=False)
    axes[0].invert_yaxis()
    return finished(f"ttft_phases_{slug(name)}", data, figure, name)


def _bars(ax: Axes, rows: pd.DataFrame) -> None:
    """Draw one bar per arm; an arm without turns of this agent has no bar."""
    left = pd.Series(0.0, index=rows.index)
    for phase, (color, hatch) in _FILL.items():
        width = rows[phase].astype("float64").fillna(0)
        if (width != 0).any():
            ax.barh(
                rows.index, width, left=left, color=color, hatch=hatch, height=0.7,
                edgecolor="white", linewidth=0.2, label=_NAMES.get(phase, phase),
            )  # fmt: skip
            left += width
    there = rows[rows["ttft_ms"].notna()]
    low, value, high = (there[column].astype("float64") for column in ("ttft_ms_low", "ttft_ms", "ttft_ms_high"))
    xerr = [(value - low).clip(lower=0), (high - value).clip(lower=0)]  # rounding can put an end beyond equal values
    ax.errorbar(value, there.index, xerr=xerr, fmt="none", ecolor="black", elinewidth=0.6)
