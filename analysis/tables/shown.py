"""The output of ``kvcomm show``: tables for a terminal, and the same content as plain data."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from rich.console import Console, RenderableType


@dataclass(frozen=True, slots=True)
class Shown:
    """One thing to show."""

    name: str
    """Key in the ``--json`` document."""
    content: Any
    """Plain data, or dataclasses in lists and dictionaries."""
    tables: Sequence[RenderableType]
    """The content for a terminal; empty if there is none."""


@dataclass(frozen=True, slots=True)
class Tables:
    """Everything that one command shows."""

    shown: tuple[Shown, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {one.name: _plain(one.content) for one in self.shown}

    def renderables(self) -> list[RenderableType]:
        """Return the tables for a terminal."""
        return [table for one in self.shown for table in one.tables]

    def print(self, console: Console) -> None:
        """Print the tables, separated by blank lines."""
        tables = self.renderables()
        if not tables:
            console.print("no timing has finished; kvcomm status says what failed", highlight=False)
        for index, table in enumerate(tables):
            console.print(*([""] if index else []), table, sep="\n", highlight=False)


def _plain(content: Any) -> Any:
    if isinstance(content, list):
        return [_plain(one) for one in content]
    if isinstance(content, dict):
        return {key: _plain(one) for key, one in content.items()}
    return asdict(content) if is_dataclass(content) and not isinstance(content, type) else content
