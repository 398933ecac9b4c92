"""What a step of the check finds, as lines of JSON in a file, each written when it is known."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Bound = Literal["memory", "products", "host link"]
Outcome = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured time and the least that the machine allows for it."""

    name: str
    seconds: float
    """Median of the times taken."""
    samples: int
    """How many times were taken."""
    roof_s: float | None = None
    """Seconds that the machine needs at least, by what was measured of it in the same process; None if unknown."""
    bound: Bound | None = None
    """What the roof is made of: reading and writing memory, products, or the link to the host."""
    aim_s: float | None = None
    """Seconds that the project aims at on an H100 or H200; None without an aim."""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestOutcome:
    """The result of one test."""

    name: str
    outcome: Outcome
    reason: str = ""
    """Why it failed or was skipped, in one line."""


class FigureFile:
    """The file of one step, open for writing."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def machine(self, facts: dict[str, Any]) -> None:
        """Record what the step found of the machine."""
        self._write("machine", facts)

    def note(self, text: str) -> None:
        """Record a line about the step."""
        self._write("note", {"text": text})

    def figure(self, figure: Figure) -> None:
        """Record a figure."""
        self._write("figure", asdict(figure))

    def test(self, outcome: TestOutcome) -> None:
        """Record the result of a test."""
        self._write("test", asdict(outcome))

    def _write(self, kind: str, fields: dict[str, Any]) -> None:
        # A step may be killed at any moment: a line that is complete stays.
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, **fields}) + "\n")


def read_figures(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a step, those of one that was killed, too: a last line that is cut off is left out."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found
