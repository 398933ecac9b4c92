"""All figures of one sweep, for ``kvcomm figures`` and the report: a new one is named here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd

from analysis.figures.accuracy_ttft import accuracy_ttft
from analysis.figures.drawing import Drawn, NothingToDrawError
from analysis.figures.fidelity_layers import fidelity_layers
from analysis.figures.fidelity_memory import fidelity_memory
from analysis.figures.reuse_warmup import reuse_warmup
from analysis.figures.sensitivity import sensitivity
from analysis.figures.speedup_length import speedup_length
from analysis.figures.ttft_phases import ttft_phases
from analysis.load import Records


@dataclass(frozen=True, slots=True)
class Figure:
    """How a figure is drawn, and what it shows."""

    caption: str
    draw: Callable[[Records, pd.DataFrame], list[Drawn]]
    """From the records of one sweep, and what ``analysis.load.load_fidelity`` gives of it. Raises
    ``NothingToDrawError``."""


FIGURES: dict[str, Figure] = {
    "accuracy_ttft": Figure(
        "Accuracy against mean TTFT, with the Pareto front", lambda records, _: accuracy_ttft(records)
    ),
    "fidelity_memory": Figure(
        "KL to dense of the next token against the memory of the anchors", lambda records, _: fidelity_memory(records)
    ),
    "ttft_phases": Figure("Mean TTFT by phase, for each agent", lambda records, _: ttft_phases(records)),
    "speedup_length": Figure("Speedup by length of the prompt", lambda records, _: speedup_length(records)),
    "reuse_warmup": Figure("Reuse while the pools fill", lambda records, _: reuse_warmup(records)),
    "sensitivity": Figure(
        "Accuracy and reuse by gamma and by anchors (the paper's table 6)", lambda records, _: sensitivity(records)
    ),
    "fidelity_layers": Figure("Keys and values beside dense ones, by layer (the paper's figure A.12)", fidelity_layers),
}
"""By name, in the order of the report."""


def draw_sweep(records: Records, fidelity: pd.DataFrame) -> Iterator[tuple[str, list[Drawn] | NothingToDrawError]]:
    """Every figure of one sweep, by name: those that its results allow, and of the others why not.

    ``fidelity`` is what ``analysis.load.load_fidelity`` gives of it.
    """
    for name, figure in FIGURES.items():
        try:
            yield name, figure.draw(records, fidelity)
        except NothingToDrawError as nothing:
            yield name, nothing
