"""The paper's numbers as data: ``paper.yaml`` with types.

table = load_paper().tables["1"]
table.value("accuracy", workload="mmlu", method="kvcomm", agents=4)    # 68.0, in table.units["accuracy"]
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml
from pydantic import ConfigDict, TypeAdapter

Coordinate = str | int | float
Place = dict[str, Coordinate]
"""The coordinates of a cell: ``{"workload": "mmlu", "method": "kvcomm", "agents": 4}``."""

_NO_OTHERS = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Setup:
    """Setup of all the paper's experiments, unless a table says otherwise."""

    __pydantic_config__ = _NO_OTHERS

    hardware: str
    models: dict[str, str]
    """Hub ids by the short names used in tables."""
    topology: str
    rounds: int
    gamma: float
    max_anchors: int
    window: int
    max_new_tokens: int
    samples: dict[str, int]
    """Number of items by workload."""


@dataclass(frozen=True, slots=True)
class Series:
    """A run of cells along one axis."""

    __pydantic_config__ = _NO_OTHERS

    at: Place
    """Coordinates that all the cells share."""
    over: dict[str, list[Coordinate]]
    """The one axis and its points."""
    values: dict[str, list[float | None]]
    """One number per point, by metric."""

    def __post_init__(self) -> None:
        if len(self.over) != 1:
            raise ValueError(f"over is {self.over}; allowed: one axis")
        for metric, values in self.values.items():
            if len(values) != len(self.points):
                raise ValueError(f"values.{metric} has {len(values)} numbers; allowed: {len(self.points)}")

    @property
    def axis(self) -> str:
        """Name of the axis."""
        return next(iter(self.over))

    @property
    def points(self) -> list[Coordinate]:
        """Points of the axis."""
        return self.over[self.axis]


@dataclass(frozen=True, slots=True)
class PrintedTable:
    """One table of the paper."""

    __pydantic_config__ = _NO_OTHERS

    title: str
    models: dict[str, list[str]]
    """Short names of the models by workload."""
    units: dict[str, str]
    """Units by metric: ``%``, ``ms``, ``x`` (times faster), ``GB`` or ``1`` (none)."""
    notes: list[str]
    """Facts a reader needs to compare results with the table."""
    series: list[Series]

    def __post_init__(self) -> None:
        for series in self.series:
            if not series.values.keys() <= self.units.keys():
                raise ValueError(f"values has {', '.join(series.values)}; allowed: {', '.join(self.units)}")

    def cells(self) -> Iterator[tuple[Place, dict[str, float | None]]]:
        """Yield the coordinates of each cell and its numbers by metric, in the paper's order."""
        for series in self.series:
            for index, point in enumerate(series.points):
                yield {**series.at, series.axis: point}, {name: values[index] for name, values in series.values.items()}

    def value(self, metric: str, **place: Coordinate) -> float | None:
        """Return the printed number in ``units[metric]``, or None if the cell has no number for this metric.

        Raises ``KeyError`` for a metric or a cell that the table does not have.
        """
        if metric not in self.units:
            raise KeyError(f"metric is {metric}; allowed: {', '.join(self.units)}")
        for cell, numbers in self.cells():
            if cell == place:
                return numbers.get(metric)
        raise KeyError(f"no cell at {place}")


@dataclass(frozen=True, slots=True)
class Paper:
    """All numbers of the paper."""

    __pydantic_config__ = _NO_OTHERS

    setup: Setup
    tables: dict[str, PrintedTable]
    """Tables by the paper's number: ``1`` to ``6``, ``A.2`` to ``A.6``."""
    figures: dict[str, str]
    """Content of each figure, by the paper's number."""
    figure_numbers: dict[str, PrintedTable]
    """Numbers printed in figures or in the text about them, by the paper's number."""

    def models_of(self, table: PrintedTable) -> list[str]:
        """Return the hub ids of the models in a table."""
        names = dict.fromkeys(name for of_workload in table.models.values() for name in of_workload)
        return [self.setup.models[name] for name in names]


@cache
def load_paper() -> Paper:
    """Load the numbers that ship with the package. The returned data is shared: do not change it."""
    text = files("analysis.paper").joinpath("paper.yaml").read_text(encoding="utf-8")
    return TypeAdapter(Paper).validate_python(yaml.safe_load(text))
