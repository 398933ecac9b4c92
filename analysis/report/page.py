"""The report: one HTML file that needs no network or script. Equal results give equal bytes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2

from analysis.figures.all_figures import FIGURES, draw_sweep
from analysis.figures.drawing import NothingToDrawError
from analysis.paper import PAPER_TABLES
from analysis.paper.paper_rendering import render_paper_table
from analysis.report.blocks import Grid, Picture, Text, blocks_of, picture_of
from analysis.report.compared_arms import compare_arms, render_comparisons
from analysis.report.conditions import conditions
from analysis.report.damage import Damage, find_damage
from analysis.report.failures import Planned, Progress, progress_of
from analysis.report.tails import render_tails
from analysis.report.verdict import Statement, state
from analysis.results import Results
from analysis.tables.show import make_tables
from harness.results.sweep_folder import sweep_folders
from harness.text import displayed


@dataclass(frozen=True, slots=True)
class Sweep:
    """The content of the page for one sweep."""

    name: str
    statements: list[Statement]
    comparisons: list[Text | Grid]
    """The numbers of the verdict; empty if nothing is compared."""
    tables: list[Text | Grid]
    pictures: list[Picture]
    left_out: list[tuple[str, str]]
    """Figures that the results cannot fill, each with what it needs."""
    progress: Progress
    plan_problem: str | None
    damage: Damage
    conditions: list[tuple[str, str]]
    sweep_file: str | None
    """Text of the sweep file; None if it cannot be read."""


@dataclass(frozen=True, slots=True)
class PaperBlock:
    """One of the paper's tables with our results."""

    number: str
    blocks: list[Text | Grid]


def render_report(folder: Path, planned: Mapping[str, Planned]) -> str:
    """Render the page for a results folder, or for one sweep if the folder is that of a sweep.

    ``planned`` has an entry for each sweep. The page lists damaged files and leaves their content out. Raises
    ``StoreError`` if there are no results.
    """
    folders = sweep_folders(folder)
    damages = {of_sweep: find_damage(of_sweep) for of_sweep in folders}
    without = {of_sweep / path for of_sweep, damage in damages.items() for path in damage.left_out}
    results = Results(folder, without=without)
    sweeps = [_sweep(one, Results(one, without=without), damages[one], planned[one.resolve().name]) for one in folders]
    papers = [
        PaperBlock(number, list(blocks_of(render_paper_table(table))))
        for number, make in PAPER_TABLES.items()
        for table in make(results)
        if table.measured
    ]
    once = results.each_trial_once()
    overall = state(once, compare_arms(once)) if len(folders) > 1 else []
    gone = [number for number in PAPER_TABLES if number not in {paper.number for paper in papers}]
    return _template().render(title=folder.resolve().name, overall=overall, sweeps=sweeps, papers=papers, gone=gone)


def _sweep(folder: Path, results: Results, damage: Damage, planned: Planned) -> Sweep:
    rows = compare_arms(results)
    drawn = dict(draw_sweep(results))
    tables = [block for table in make_tables(results).renderables() for block in blocks_of(table)]
    tails = render_tails(results)
    if tails is not None:
        tables += [Text("time to the first token; p90 from 10 turns on, p99 from 100:"), *blocks_of(tails)]
    return Sweep(
        name=folder.resolve().name,
        statements=state(results, rows),
        comparisons=list(blocks_of(render_comparisons(rows))) if rows else [],
        tables=tables,
        pictures=[
            picture_of(one, FIGURES[name].caption)
            for name, made in drawn.items()
            if isinstance(made, list)
            for one in made
        ],
        left_out=[(name, str(made)) for name, made in drawn.items() if isinstance(made, NothingToDrawError)],
        progress=progress_of(results.trials, planned),
        plan_problem=planned.problem,
        damage=damage,
        conditions=conditions(results.trials),
        sweep_file=_text(folder / "sweep.yaml"),
    )


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None  # a pipe would block
    except OSError:
        return None


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # people or models wrote all text in the results
        finalize=_clean,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html.jinja")


def _clean(value: object) -> object:
    """Escape characters that HTML forbids or that reverse the text direction; jinja escapes the markup."""
    return displayed(value) if type(value) is str else value
