"""All figures of one sweep, for ``kvcomm figures`` and the report. Register a new figure here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from analysis.figures.accuracy_ttft import accuracy_ttft
from analysis.figures.fidelity_layers import fidelity_layers
from analysis.figures.fidelity_memory import fidelity_memory
from analysis.figures.figure_1 import figure_1
from analysis.figures.figure_4 import figure_4
from analysis.figures.figure_a1 import figure_a1
from analysis.figures.figure_a3 import figure_a3
from analysis.figures.figure_a4_a11 import figure_a4_a11
from analysis.figures.figure_a12 import figure_a12
from analysis.figures.kl_computed import kl_computed
from analysis.figures.no_reuse_reasons import no_reuse_reasons
from analysis.figures.parts.drawing import Drawn, NothingToDrawError
from analysis.figures.reuse_warmup import reuse_warmup
from analysis.figures.sensitivity import sensitivity
from analysis.figures.speedup_length import speedup_length
from analysis.figures.ttft_phases import ttft_phases
from analysis.results import Results


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure's caption and its drawing function."""

    caption: str
    draw: Callable[[Results], list[Drawn]]
    """Draws the figure from the results of one sweep. Raises ``NothingToDrawError``."""


FIGURES: dict[str, Figure] = {
    "accuracy_ttft": Figure("Accuracy against mean TTFT, with the Pareto front", accuracy_ttft),
    "fidelity_memory": Figure("KL to dense of the next token against the memory of the anchors", fidelity_memory),
    "kl_computed": Figure("KL to dense against the tokens computed, with the Pareto front", kl_computed),
    "ttft_phases": Figure("Mean TTFT by phase, for each agent", ttft_phases),
    "speedup_length": Figure("Speedup by length of the prompt", speedup_length),
    "reuse_warmup": Figure("Reuse while the pools fill", reuse_warmup),
    "no_reuse_reasons": Figure("Why turns did not reuse, by reason and kind of placeholder", no_reuse_reasons),
    "sensitivity": Figure("Accuracy and reuse by gamma and by anchors (the paper's table 6)", sensitivity),
    "fidelity_layers": Figure("Keys and values beside dense ones, by layer", fidelity_layers),
    "figure_1": Figure(
        "Offset of one token's keys and values among prefixes, and of two similar tokens (the paper's figure 1)",
        figure_1,
    ),
    "figure_4": Figure(
        "Distances of tokens' keys, values and offsets, by distance of their embeddings (the paper's figure 4)",
        figure_4,
    ),
    "figure_a1": Figure(
        "Memory of the anchors by their number, length of answers and of the prefix (the paper's figure A.1)",
        figure_a1,
    ),
    "figure_a3": Figure(
        "Use of the anchors by their length (the paper's figure A.3)",
        figure_a3,
    ),
    "figure_a4_a11": Figure(
        "Offsets by layer and hidden dimension, for each agent (the paper's figures A.4 to A.11)",
        figure_a4_a11,
    ),
    "figure_a12": Figure(
        "Approximated beside true keys and values by layer, for each agent (the paper's figure A.12)",
        figure_a12,
    ),
}
"""Figures by name, in the order of the report."""


def draw_sweep(results: Results) -> Iterator[tuple[str, list[Drawn] | NothingToDrawError]]:
    """Yield every figure of one sweep by name: the drawings, or the error that says why there are none."""
    for name, figure in FIGURES.items():
        try:
            yield name, figure.draw(results)
        except NothingToDrawError as nothing:
            yield name, nothing
