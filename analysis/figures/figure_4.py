"""The paper's figure 4: does the context shift tokens with similar embeddings alike?"""

import math

import pandas as pd
from matplotlib.axes import Axes

from analysis import stats
from analysis.figures.parts.drawing import Drawn, columns_of, draw_band, finished, panels, whole_numbers
from analysis.figures.parts.looks import in_order
from analysis.figures.parts.styles import GREY, styled
from analysis.figures.probed import Probed, probed
from analysis.results import Results

_BINS = {
    **{name: (color, "-") for name, (color, _) in zip(("near", "mid", "far"), in_order(3), strict=True)},
    "random": (GREY, "--"),
}
_TOGETHER = "all three"
_MEASURES = (("distance", "one prefix"), ("offset_distance", "offset"))


@styled
def figure_4(results: Results) -> list[Drawn]:
    """Draw a figure for each trial of ``proximity``.

    Distances are relative to the mean norm of the compared vectors; bands are 95 % intervals over the pairs. Rank
    correlations are over the paper's three bins together, and over pairs drawn at random.
    """
    return [_draw(one) for one in probed(results, "proximity", "figure_4")]


def _draw(one: Probed) -> Drawn:
    figure, axes = panels(8, 1.5, columns=4)
    data = []
    for row, part in enumerate(("keys", "values")):
        for column, (measure, under) in enumerate(_MEASURES):
            own = one.rows[(one.rows["part"] == part) & (one.rows["measure"] == measure)]
            left, right = axes[4 * row + 2 * column : 4 * row + 2 * column + 2]
            left.set_title(f"({'ac'[column]}) {part}, {under}")
            left.set_ylabel("relative distance")
            right.set_title(f"({'bd'[column]}) {part}, {under}")
            right.set_ylabel("Spearman's rho")
            right.axhline(0, color="#000000", linewidth=0.4)
            for bin_, (color, line) in _BINS.items():
                estimates = _means(own[own["bin"] == bin_])
                _band(left, estimates, color, line, bin_)
                data += _rows(estimates, part, measure, "mean", bin_)
            for bin_, color, line in ((_TOGETHER, "#000000", "-"), ("random", GREY, "--")):
                rows = own[own["bin"].isna() if bin_ == _TOGETHER else own["bin"] == bin_]
                estimates = _correlations(rows[rows["statistic"] == "spearman"])
                _band(right, estimates, color, line, bin_)
                data += _rows(estimates, part, measure, "spearman", bin_)
            right.set_ylim(-0.5, 1)
    for ax in axes:
        whole_numbers(ax, "layer")
    title = f"{one.title}: after one prefix, and offset between two"
    return finished(one.figure_name("figure_4"), pd.DataFrame(data), figure, title)


def _means(rows: pd.DataFrame) -> dict[int, stats.Estimate | None]:
    found: dict[int, stats.Estimate | None] = {}
    for layer, own in rows.groupby("layer"):
        number = dict(zip(own["statistic"], own["value"], strict=True))
        known = not math.isnan(number["mean"])
        n = int(own["n"].iloc[0])
        found[int(str(layer))] = stats.mean_of_moments(number["mean"], number["sd"], n) if known else None
    return found


def _correlations(rows: pd.DataFrame) -> dict[int, stats.Estimate | None]:
    return {
        int(layer): None if math.isnan(value) else stats.rank_correlation(value, int(n))
        for layer, value, n in sorted(zip(rows["layer"], rows["value"], rows["n"], strict=True))
    }


def _band(ax: Axes, by_layer: dict[int, stats.Estimate | None], color: str, line: str, label: str) -> None:
    draw_band(ax, {layer: known for layer, known in by_layer.items() if known is not None}, color, line, label)
    ax.set_xlim(-1, max(by_layer) + 1)


def _rows(
    by_layer: dict[int, stats.Estimate | None], part: str, measure: str, statistic: str, bin_: str
) -> list[dict[str, object]]:
    place = {"part": part, "measure": measure, "statistic": statistic, "bin": bin_}
    return [
        {**place, "layer": layer, **(columns_of("value", estimate) if estimate else {"value": None})}
        for layer, estimate in by_layer.items()
    ]
