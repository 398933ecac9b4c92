"""All figures of one sweep."""

from collections.abc import Callable, Iterator
from pathlib import Path

from analysis.figures.accuracy_ttft import accuracy_ttft
from analysis.figures.drawing import Drawn, NothingToDrawError
from analysis.figures.fidelity_layers import fidelity_layers
from analysis.figures.fidelity_memory import fidelity_memory
from analysis.figures.figure_1 import figure_1
from analysis.figures.figure_4 import figure_4
from analysis.figures.figure_a1 import figure_a1
from analysis.figures.figure_a3 import figure_a3
from analysis.figures.figure_a4_a11 import figure_a4_a11
from analysis.figures.figure_a12 import figure_a12
from analysis.figures.reuse_warmup import reuse_warmup
from analysis.figures.sensitivity import sensitivity
from analysis.figures.speedup_length import speedup_length
from analysis.figures.ttft_phases import ttft_phases
from analysis.load import load, load_anchors, load_fidelity, load_kv_statistics


def draw_sweep(folder: Path) -> Iterator[tuple[str, list[Drawn] | NothingToDrawError]]:
    """Every figure of the sweep in a folder, by name: those that its results allow, and of the others why not.

    Raises ``harness.store.StoreError``.
    """
    records, fidelity = load(folder), load_fidelity(folder)
    statistics, anchors = load_kv_statistics(folder), load_anchors(folder)
    draws: dict[str, Callable[[], list[Drawn]]] = {
        "accuracy_ttft": lambda: accuracy_ttft(records),
        "fidelity_memory": lambda: fidelity_memory(records),
        "ttft_phases": lambda: ttft_phases(records),
        "speedup_length": lambda: speedup_length(records),
        "reuse_warmup": lambda: reuse_warmup(records),
        "sensitivity": lambda: sensitivity(records),
        "fidelity_layers": lambda: fidelity_layers(records, fidelity),
        "figure_1": lambda: figure_1(records, statistics),
        "figure_4": lambda: figure_4(records, statistics),
        "figure_a1": lambda: figure_a1(records),
        "figure_a3": lambda: figure_a3(records, anchors),
        "figure_a4_a11": lambda: figure_a4_a11(records, statistics),
        "figure_a12": lambda: figure_a12(records, fidelity),
    }
    for name, draw in draws.items():
        try:
            yield name, draw()
        except NothingToDrawError as nothing:
            yield name, nothing
