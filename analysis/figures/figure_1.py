"""The paper's figure 1: how the context shifts one token's keys and values, and those of two similar tokens."""

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.parts.drawing import Drawn, finished, panels, whole_numbers
from analysis.figures.parts.labels import label_ends, shown
from analysis.figures.parts.styles import BLUE, GREY, ORANGE, VERMILION, styled
from analysis.figures.probed import Probed, by_layer, probed
from analysis.results import Results

End = tuple[float, float, str]
"""Where a line ends, and its colour."""

_PARTS = (("keys", BLUE), ("values", VERMILION))
_ALIGNED = ((True, BLUE, "aligned"), (False, ORANGE, "not aligned"))


@styled
def figure_1(results: Results) -> list[Drawn]:
    """Draw a figure for each trial of ``contexts``.

    Bands are one standard deviation over the prefixes; thin lines are the means of the other tokens. Dashed lines are
    of the similar token and, in the last panel, where two unrelated offsets of these lengths would lie.
    """
    return [_draw(one) for one in probed(results, "contexts", "figure_1")]


def _draw(one: Probed) -> Drawn:
    rows = one.rows
    figure, (offsets, similar, difference) = panels(3, 2.0, columns=3)
    ends: dict[Axes, dict[str, End]] = {ax: {} for ax in (offsets, similar, difference)}
    for part, color in _PARTS:
        own = rows[(rows["part"] == part) & (rows["measure"] == "offset") & (rows["aligned"].isna() | rows["aligned"])]
        ends[offsets][part] = _with_spread(offsets, own, color, part)
    offsets.set_title(shown(f"one token, {_text(rows, 'offset')}"))
    offsets.set_ylabel("offset / base (norms)")

    keys = rows[rows["part"] == "keys"]
    for aligned, color, label in _ALIGNED:
        own = keys[(keys["aligned"] == aligned) & (keys["token_index"] == 0) & (keys["statistic"] == "mean")]
        for measure, line in (("neighbor_offset", "--"), ("offset", "-")):
            series = by_layer(own[own["measure"] == measure])
            name = shown(f"{label}, {_text(rows, measure)}")
            similar.plot(series.index, series, color=color, linestyle=line, label=name)
            ends[similar][label] = _end(series, color)
        differences = keys[(keys["aligned"] == aligned) & (keys["measure"] == "offset_difference")]
        ends[difference][label] = _with_spread(difference, differences, color, label)
    similar.set_title(shown(f"keys of {_text(rows, 'offset')} and {_text(rows, 'neighbor_offset')} (dashed)"))
    similar.set_ylabel("offset / base (norms)")

    first = keys[(keys["aligned"] == True) & (keys["token_index"] == 0) & (keys["statistic"] == "mean")]  # noqa: E712
    sizes = [by_layer(first[first["measure"] == measure]) for measure in ("offset", "neighbor_offset")]
    unrelated = (sizes[0] ** 2 + sizes[1] ** 2) ** 0.5
    difference.plot(unrelated.index, unrelated, color=GREY, linestyle="--", label="if unrelated")
    ends[difference]["if unrelated"] = _end(unrelated, GREY)
    difference.set_title("difference of their key offsets")
    difference.set_ylabel("difference / base (norms)")
    for ax, of_lines in ends.items():
        ax.set_ylim(bottom=0)
        whole_numbers(ax, "layer")
        label_ends(ax, of_lines)
    prefixes = int(rows["n"].iloc[0])
    names = ["part", "measure", "aligned", "token_index", "token_text", "layer", "statistic", "value", "n"]
    data = rows[names].reset_index(drop=True)
    named = {str(each.get_label()) for ax in ends for each in ax.lines}
    return finished(one.figure_name("figure_1"), data, figure, f"{one.title}: {prefixes} prefixes", named=named)


def _with_spread(ax: Axes, rows: pd.DataFrame, color: str, label: str) -> End:
    """Draw the means of the other tokens, and the first token's with its standard deviation. Return where it ends."""
    end = (0.0, 0.0, color)
    for index, own in rows.groupby("token_index"):
        mean = by_layer(own[own["statistic"] == "mean"])
        if index:
            ax.plot(mean.index, mean, color=color, linewidth=0.4, alpha=0.35)
            continue
        sd = by_layer(own[own["statistic"] == "sd"])
        ax.plot(mean.index, mean, color=color, label=label)
        ax.fill_between(mean.index, mean - sd, mean + sd, color=color, alpha=0.2, linewidth=0)
        end = _end(mean, color)
    return end


def _end(series: "pd.Series[float]", color: str) -> End:
    return float(series.index[-1]), float(series.iloc[-1]), color


def _text(rows: pd.DataFrame, measure: str) -> str:
    """Return the first token, or its neighbor, in quotes and without surrounding spaces."""
    own = rows[(rows["measure"] == measure) & (rows["token_index"] == 0)]
    return f'"{own["token_text"].iloc[0].strip()}"'
