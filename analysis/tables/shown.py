"""The output of one ``analysis`` view of one kind of trial."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class Shown:
    """One thing to show."""

    name: str
    """Key in the ``--json`` document."""
    content: Any
    """Plain data, or a list of dataclasses."""
    tables: Sequence[RenderableType]
    """The content for a terminal; empty if there is none."""
