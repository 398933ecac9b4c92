"""Split terminal output into blocks for a page, so that both show the same tables."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Grid:
    """A table. ``numeric`` says for each column whether it is right-aligned."""

    head: list[str]
    numeric: list[bool]
    rows: list[list[str]]


def blocks_of(renderable: RenderableType) -> Iterator[Text | Grid]:
    """Yield the parts of ``analysis`` output: strings, tables, and groups of them."""
    if isinstance(renderable, Group):
        for part in renderable.renderables:
            yield from blocks_of(part)
    elif isinstance(renderable, Table):
        heads = [" ".join(str(column.header).split()) for column in renderable.columns]
        numeric = [column.justify == "right" for column in renderable.columns]
        cells = [[str(cell) for cell in column.cells] for column in renderable.columns]
        yield Grid(heads, numeric, [list(row) for row in zip(*cells, strict=True)])
    else:
        yield Text(str(renderable))
