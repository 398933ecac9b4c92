"""Split terminal output into blocks for a page, so that both show the same tables."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table

from analysis.figures.drawing import Drawn
from analysis.figures.saving import encoded
from analysis.figures.styles import COLUMN_IN


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


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure as a data URI of the whole SVG. As an image it can neither run nor load anything."""

    name: str
    caption: str
    source: str
    wide: bool
    """Whether the figure takes two columns of a paper rather than one."""


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


def picture_of(drawn: Drawn, caption: str) -> Picture:
    """Encode a figure for the page."""
    content = base64.b64encode(encoded(drawn, "svg")).decode()
    wide = drawn.figure.get_figwidth() > COLUMN_IN
    return Picture(drawn.name, caption, f"data:image/svg+xml;base64,{content}", wide)
