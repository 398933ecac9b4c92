"""All figures of one sweep."""

from collections.abc import Callable, Iterator

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


def draw_sweep(records: Records, fidelity: pd.DataFrame) -> Iterator[tuple[str, list[Drawn] | NothingToDrawError]]:
    """Every figure of one sweep, by name: those that its results allow, and of the others why not.

    ``fidelity`` is what ``analysis.load.load_fidelity`` gives of it.
    """
    draws: dict[str, Callable[[], list[Drawn]]] = {
        "accuracy_ttft": lambda: accuracy_ttft(records),
        "fidelity_memory": lambda: fidelity_memory(records),
        "ttft_phases": lambda: ttft_phases(records),
        "speedup_length": lambda: speedup_length(records),
        "reuse_warmup": lambda: reuse_warmup(records),
        "sensitivity": lambda: sensitivity(records),
        "fidelity_layers": lambda: fidelity_layers(records, fidelity),
    }
    for name, draw in draws.items():
        try:
            yield name, draw()
        except NothingToDrawError as nothing:
            yield name, nothing
