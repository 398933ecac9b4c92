"""The picture of an account: each agent's prompt tokens by what could become of them, and who reads whose text."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.parts.drawing import Drawn
from analysis.figures.parts.labels import shown
from analysis.figures.parts.styles import BLUE, GREEN, GREY, ORANGE, SKY, style, styled
from analysis.potential.account import Account

MOST_BARS = 16
"""Maximum number of agents and of producers in the picture; the others, with fewer tokens, are drawn as one."""

PARTS = (
    ("exact_prefix", "exact prefix", GREY),
    ("whole_answers", "whole answers", BLUE),
    ("whole_inputs", "whole inputs", SKY),
    ("fragments", "fragments", GREEN),
    ("new", "new", ORANGE),
)
OTHERS = "others"


@styled
def draw_account(account: Account) -> Drawn:
    """Draw stacked bars by reader, and beside them the tokens reusable elsewhere by producer and reader."""
    readers = _largest({agent: tally.prompt for agent, tally in account.agents.items()})
    rows = {reader: {name: 0 for name, _, _ in PARTS} for reader in readers}
    for agent, tally in account.agents.items():
        row = rows[agent if agent in rows else OTHERS]
        for name in row:
            row[name] += getattr(tally, name)
    by_producer: dict[str, int] = {}
    for (producer, _), tokens in account.pairs.items():
        by_producer[producer] = by_producer.get(producer, 0) + tokens
    producers = _largest(by_producer)
    matrix = np.zeros((len(producers), len(readers)))
    for (producer, reader), tokens in account.pairs.items():
        row_index = producers.index(producer if producer in producers else OTHERS)
        matrix[row_index, readers.index(reader if reader in readers else OTHERS)] += tokens

    height = 1.0 + 0.22 * max(len(readers), len(producers))
    figure = Figure(figsize=(style().page_in, height), layout="constrained")
    bars, pairs = figure.subplots(1, 2, width_ratios=(3, 2)) if producers else (figure.subplots(), None)
    _draw_bars(bars, readers, rows)
    if pairs is not None:
        _draw_matrix(pairs, producers, readers, matrix)
    figure.legend(loc="outside lower center", ncols=len(PARTS))
    data = pd.DataFrame([{"agent": reader, **rows[reader]} for reader in readers])
    for producer, tokens_of in zip(producers, matrix, strict=True):
        data[f"text of {producer}"] = tokens_of.astype(int)
    return Drawn("potential", data, figure)


def _draw_bars(axes: Axes, readers: Sequence[str], rows: dict[str, dict[str, int]]) -> None:
    left = np.zeros(len(readers))
    for name, label, color in PARTS:
        widths = np.array([rows[reader][name] for reader in readers]) / 1000
        axes.barh(range(len(readers)), widths, left=left, color=color, label=label)
        left += widths
    axes.set_yticks(range(len(readers)), [shown(reader) for reader in readers])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("prompt tokens, thousands")


def _draw_matrix(axes: Axes, producers: Sequence[str], readers: Sequence[str], matrix: npt.NDArray[np.float64]) -> None:
    axes.imshow(matrix, cmap="Blues", aspect="auto", vmin=0)
    axes.set_xticks(range(len(readers)), [shown(reader) for reader in readers], rotation=45, ha="right")
    axes.set_yticks(range(len(producers)), [shown(producer) for producer in producers])
    axes.set_title("reusable elsewhere, thousands of tokens")
    axes.set_ylabel("text of")
    axes.set_xlabel("in prompts of")
    axes.grid(visible=False)
    darkest = matrix.max()
    for (row, column), tokens in np.ndenumerate(matrix):
        if tokens:
            color = "white" if tokens > darkest / 2 else "black"
            text = f"{tokens / 1000:.1f}"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=style().small_points)


def _largest(tokens: dict[str, int]) -> list[str]:
    """Return the names with the most tokens, in the order given, and a name for the others if there are any."""
    if len(tokens) <= MOST_BARS:
        return list(tokens)
    kept = set(sorted(tokens, key=lambda name: -tokens[name])[: MOST_BARS - 1])
    return [*(name for name in tokens if name in kept), OTHERS]
