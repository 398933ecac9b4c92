"""What the notebooks call: the project's tables and figures, shown in a cell.

Needs IPython, as every Jupyter has it.
"""

from pathlib import Path

import pandas as pd
from IPython.display import Image, Markdown, display
from rich.console import RenderableType

from analysis.compare.contrasts import contrasts, render_contrasts
from analysis.figures.drawing import NothingToDrawError
from analysis.figures.saving import encoded
from analysis.figures.sweep import FIGURES
from analysis.load import load, load_long
from analysis.paper import PAPER_TABLES
from analysis.paper.paper_rendering import render_paper_table
from analysis.report.blocks import Grid, blocks_of
from analysis.report.verdict import compare_arms, render_comparisons, state
from analysis.tables.show import make_tables

_PIXELS_PER_INCH = 120
"""Of a figure on the page: its text is then about as large as that around it."""


class Results:
    """A results folder, and what a cell can show of it."""

    def __init__(self, folder: str | Path) -> None:
        """Raises ``harness.results.parquet_files.StoreError`` if there are no results, or a file is damaged."""
        self.records, self.long = load(Path(folder)), load_long(Path(folder))

    def show_paper_table(self, number: str) -> None:
        """The paper's table of that number, ``1`` or ``A.2``, with ours beside it, for each of our models."""
        measured = [table for table in PAPER_TABLES[number](self.records) if table.measured]
        for table in measured:
            _show(render_paper_table(table))
        if not measured:
            _say(f"Table {number}: nothing of it is in these results.")

    def show_figures(self, name: str, *sweeps: str) -> None:
        """The figure of that name, of each of these sweeps, or what it would need."""
        for sweep in filter(self._has, sweeps):
            try:
                drawings = FIGURES[name].draw(self.records.of_sweep(sweep), self.long.of_sweep(sweep))
            except NothingToDrawError as nothing:
                _say(f"{FIGURES[name].caption}, sweep `{sweep}`: {nothing}.")
                continue
            _say(f"**{FIGURES[name].caption}.** Sweep `{sweep}`.")
            for drawn in drawings:
                width = int(drawn.figure.get_figwidth() * _PIXELS_PER_INCH)
                display(Image(encoded(drawn, "png", dpi=_PIXELS_PER_INCH), width=width))  # type: ignore[no-untyped-call]

    def show_tables(self, sweep: str) -> None:
        """What ``kvcomm show`` prints of a sweep."""
        if self._has(sweep):
            for table in make_tables(self.records.of_sweep(sweep)).renderables():
                _show(table)

    def show_verdict(self, sweep: str) -> None:
        """What the report says first of a sweep, and the numbers that it says it by."""
        if self._has(sweep):
            records = self.records.of_sweep(sweep)
            rows = compare_arms(records)
            for statement in state(records, rows):
                _say(f"**{statement.about}.** {statement.text}")
            _show(render_comparisons(rows))

    def show_contrasts(self, sweep: str, baseline: str) -> None:
        """The arms of a sweep beside one of them, as ``kvcomm show --beside`` prints them."""
        if self._has(sweep):
            rows = contrasts(self.records.of_sweep(sweep), baseline)
            if rows:
                _show(render_contrasts(rows, baseline))
            else:
                _say(f"Sweep `{sweep}` has no arm {baseline}.")

    def _has(self, sweep: str) -> bool:
        if sweep in self.records.sweeps:
            return True
        _say(f"Sweep `{sweep}` is not in these results.")
        return False


def _show(renderable: RenderableType) -> None:
    for block in blocks_of(renderable):
        if isinstance(block, Grid):
            frame = pd.DataFrame(block.rows, columns=block.head, index=[""] * len(block.rows))
            with pd.option_context("display.max_rows", None, "display.max_columns", None, "display.max_colwidth", None):
                display(frame)  # type: ignore[no-untyped-call]
        else:
            _say(block.text)


def _say(text: str) -> None:
    display(Markdown(text))  # type: ignore[no-untyped-call]
