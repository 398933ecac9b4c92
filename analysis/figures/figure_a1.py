"""The paper's figure A.1: memory of the anchors by their number, answer length and prefix length."""

import json
import math

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.parts.drawing import Drawn, NothingToDrawError, finished, panels, slug
from analysis.figures.parts.looks import in_order
from analysis.figures.parts.styles import GREY, styled
from analysis.paper.printed_numbers import load_paper
from analysis.results import Results

_LENGTHS = ("anchors", "prefix_tokens", "output_tokens")


@styled
def figure_a1(results: Results) -> list[Drawn]:
    """Draw a figure for each model, estimator and question length among the kvcomm ``ttft`` trials, if their answers
    have several lengths. Each number of anchors, ours or the paper's, has a panel.

    Solid lines are our pools. Dashed lines are the same anchors in the layout of the public code. The band is the range
    that the paper prints for its model and lengths. A line has a gap where a trial is not ``ok``.
    """
    trials = _trials(results)
    drawn = [
        _draw(str(name), rows)
        for name, rows in trials.groupby("name", sort=False)
        if rows["output_tokens"].nunique() > 1 and rows["memory_gb"].notna().any()
    ]
    if not drawn:
        raise NothingToDrawError(
            "needs ttft trials of kvcomm with answers of several lengths; kvcomm run sweeps/paper/figure_a1.yaml "
            "makes them"
        )
    return drawn


def _trials(results: Results) -> pd.DataFrame:
    found = []
    own = results.trials[(results.trials["workload"] == "ttft") & (results.trials["method"] == "kvcomm")]
    for _, trial in own.iterrows():
        spec = json.loads(trial["spec_json"])
        workload, estimator = spec["workload"], spec["kvcomm"]["estimator"]
        ok = trial["status"] == "ok"
        name = f"{trial['model']}, {trial['agents']} agents, {estimator}, question of {workload['input_tokens']} tokens"
        found.append(
            {
                "name": name,
                **{length: workload[length] for length in _LENGTHS},
                "memory_gb": trial["pool_bytes_max"] / 1e9 if ok else math.nan,
                "public_layout_gb": trial["pool_bytes_public_layout"] / 1e9 if ok else math.nan,
            }
        )
    frame = pd.DataFrame(found, columns=["name", *_LENGTHS, "memory_gb", "public_layout_gb"])
    return frame.groupby(
        ["name", *_LENGTHS], sort=False, as_index=False
    ).max()  # over seeds, which do not change the memory


def _draw(name: str, rows: pd.DataFrame) -> Drawn:
    printed = load_paper().figure_numbers["A.1"]
    paper = {place["anchors"]: numbers for place, numbers in printed.cells()}
    counts = sorted({*rows["anchors"], *(int(anchors) for anchors in paper)})
    prefixes, outputs = (sorted(rows[length].unique()) for length in _LENGTHS[1:])
    figure, axes = panels(len(counts), 1.9, columns=4, shared=True)
    data = []
    for index, (ax, anchors) in enumerate(zip(axes, counts, strict=True)):
        numbers = paper.get(anchors, {})
        low, high = numbers.get("memory_low"), numbers.get("memory_high")
        if low is not None and high is not None:
            ax.axhspan(low, high, color=GREY, alpha=0.3, linewidth=0, label="paper (8B model, its lengths)")
        own = rows[rows["anchors"] == anchors]
        for prefix, (color, marker) in zip(prefixes, in_order(len(prefixes)), strict=True):
            line = own[own["prefix_tokens"] == prefix].set_index("output_tokens").reindex(outputs)
            _line(ax, line, f"prefix {prefix}", color, marker)
            data += [
                {"anchors": anchors, "prefix_tokens": prefix, "output_tokens": output, **values,
                 "paper_low_gb": low, "paper_high_gb": high}
                for output, values in line[["memory_gb", "public_layout_gb"]].to_dict("index").items()
            ]  # fmt: skip
        if own["memory_gb"].isna().all():
            ax.text(0.5, 0.4, "not run", transform=ax.transAxes, ha="center")
        ax.set_title(f"{anchors} anchors")
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xticks(outputs, [str(output) for output in outputs])
        ax.minorticks_off()
        ax.set_xlabel("answer length (tokens)")
        if index % 4 == 0:
            ax.set_ylabel("memory of all pools (GB)")
    return finished(f"figure_a1_{slug(name)}", pd.DataFrame(data), figure, name)


def _line(ax: Axes, line: pd.DataFrame, label: str, color: str, marker: str) -> None:
    if line["memory_gb"].isna().all():
        return
    outputs = list(line.index)
    ax.plot(outputs, line["memory_gb"], color=color, marker=marker, fillstyle="none", label=label)
    ax.plot(outputs, line["public_layout_gb"], color=color, linestyle="--", linewidth=0.7, label="public code's layout")
