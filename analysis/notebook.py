"""Functions for the notebooks: they show the project's tables and figures in a cell.

This module needs IPython, which every Jupyter has.
"""

from pathlib import Path

import pandas as pd
from IPython.display import Image, Markdown, display
from rich.console import RenderableType

from analysis.compare.contrasts import contrasts, render_contrasts
from analysis.explore.frames import cells_frame, figure_frame, paper_frame
from analysis.figures.all_figures import FIGURES
from analysis.figures.parts.drawing import NothingToDrawError
from analysis.figures.saving import encoded
from analysis.paper import PAPER_TABLES
from analysis.paper.paper_rendering import render_paper_table
from analysis.report.blocks import Grid, blocks_of
from analysis.report.compared_arms import compare_arms, render_comparisons
from analysis.report.verdict import state
from analysis.results import Results
from analysis.tables.show import make_tables

_PIXELS_PER_INCH = 120
"""Resolution of a figure on the page; it makes the figure's text about as large as the text around it."""


class NotebookResults:
    """A results folder whose tables and figures a cell can show."""

    def __init__(self, folder: str | Path) -> None:
        """Open the folder.

        Raises ``harness.results.parquet_files.StoreError`` if there are no results or a file is damaged.
        """
        self.results = Results(folder)

    def show_paper_table(self, number: str) -> None:
        """Show a table of the paper (``1``, ``A.2``) next to our results, once for each of our models."""
        measured = [table for table in PAPER_TABLES[number](self.results) if table.measured]
        for table in measured:
            _show(render_paper_table(table))
        if not measured:
            _say(f"Table {number}: nothing of it is in these results.")

    def show_figures(self, name: str, *sweeps: str) -> None:
        """Show the named figure for each of these sweeps, or say what it needs."""
        for sweep in filter(self._has, sweeps):
            try:
                drawings = FIGURES[name].draw(self.results.of_sweep(sweep))
            except NothingToDrawError as nothing:
                _say(f"{FIGURES[name].caption}, sweep `{sweep}`: {nothing}.")
                continue
            _say(f"**{FIGURES[name].caption}.** Sweep `{sweep}`.")
            for drawn in drawings:
                width = int(drawn.figure.get_figwidth() * _PIXELS_PER_INCH)
                display(Image(encoded(drawn, "png", dpi=_PIXELS_PER_INCH), width=width))  # type: ignore[no-untyped-call]

    def show_tables(self, sweep: str) -> None:
        """Show what ``kvcomm show`` prints for a sweep."""
        if self._has(sweep):
            for table in make_tables(self.results.of_sweep(sweep)).renderables():
                _show(table)

    def show_verdict(self, sweep: str) -> None:
        """Show the report's verdict on a sweep and the numbers behind it."""
        if self._has(sweep):
            results = self.results.of_sweep(sweep)
            rows = compare_arms(results)
            for statement in state(results, rows):
                _say(f"**{statement.about}.** {statement.text}")
            _show(render_comparisons(rows))

    def show_contrasts(self, sweep: str, baseline: str) -> None:
        """Show the arms of a sweep against one of them, as ``kvcomm show --beside`` prints them."""
        if self._has(sweep):
            rows = contrasts(self.results.of_sweep(sweep), baseline)
            if rows:
                _show(render_contrasts(rows, baseline))
            else:
                _say(f"Sweep `{sweep}` has no arm {baseline}.")

    def cells(self, *sweeps: str) -> pd.DataFrame:
        """Return a row for each cell of these sweeps, with every measure, and say which sweeps are not there.

        ``analysis.explore.frames.cells_frame`` says which columns it has. ``results`` has the tables behind it.
        """
        there = [sweep for sweep in sweeps if self._has(sweep)]
        _say(f"{', '.join(f'`{sweep}`' for sweep in there) or 'Nothing'} as a DataFrame:")
        return cells_frame(self.results, *(there or ["-"]))

    def paper(self, number: str) -> pd.DataFrame:
        """Return a table of the paper beside ours, with a row for each number."""
        return paper_frame(self.results, number)

    def figure(self, name: str, sweep: str) -> pd.DataFrame:
        """Return the numbers of a figure of a sweep. Raises ``NothingToDrawError`` if the results cannot fill it."""
        return figure_frame(self.results, name, sweep)

    def _has(self, sweep: str) -> bool:
        if sweep in self.results.sweeps:
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
