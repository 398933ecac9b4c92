"""What one function of ``analysis`` shows of the trials of one kind."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class Shown:
    """One thing to show."""

    name: str
    """In the document of ``--json``."""
    content: Any
    """Plain data, or a list of dataclasses."""
    tables: Sequence[RenderableType]
    """The same for a terminal; empty if there is nothing."""
