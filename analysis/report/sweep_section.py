"""The section of one sweep on the page: its verdict in words, its numbers and figures, and what it lacks."""

from dataclasses import dataclass
from pathlib import Path

from analysis.arena.arena_section import arena_tables
from analysis.report.blocks import Grid, Text, blocks_of
from analysis.report.cells import Row, constant, rows_of, said, specs_of
from analysis.report.compared_arms import all_arms, render_comparisons
from analysis.report.conditions import conditions
from analysis.report.damage import Damage
from analysis.report.failures import Planned, Progress, progress_of
from analysis.report.paper_figures import FigureSection, sweep_figures
from analysis.report.tails import render_tails
from analysis.report.verdict import Statement, state
from analysis.results import Results
from analysis.tables.show import make_tables
from harness.cells import FlatSpec


@dataclass(frozen=True, slots=True)
class Sweep:
    """The content of the page for one sweep."""

    name: str
    results: Results
    rows: list[Row]
    """Its cells, dense ones included."""
    constants: str
    """The fields that all its trials share, besides those that all trials of the page share."""
    statements: list[Statement]
    comparisons: list[Text | Grid]
    """The numbers of the verdict; empty if nothing is compared."""
    arena: list[Text | Grid]
    """Its methods side by side; empty if it compares few."""
    tables: list[Text | Grid]
    figures: list[FigureSection]
    progress: Progress
    plan_problem: str | None
    n_other_version: int
    """Trials whose ids this version would compute otherwise, though their specs are planned."""
    damage: Damage
    conditions: list[tuple[str, str]]
    sweep_file: str | None
    """Text of the sweep file; None if it cannot be read."""

    @property
    def what(self) -> str:
        """What it holds, in a line."""
        ok, planned, failed = self.progress.n_ok, self.progress.n_planned, len(self.progress.failed)
        known = "" if planned is None else f"; the sweep file names {planned}"
        return f"{ok} {'trial' if ok == 1 else 'trials'} ended well{f', {failed} failed' if failed else ''}{known}"

    @property
    def has_gaps(self) -> bool:
        """Whether anything failed, is missing or damaged, or cannot be known."""
        progress, damage = self.progress, self.damage
        found = (progress.failed, progress.not_run, progress.n_unplanned, self.plan_problem)
        return any(found) or any((damage.damaged, damage.incomplete, damage.set_aside))


def sweep_section(folder: Path, results: Results, damage: Damage, planned: Planned, shared: FlatSpec) -> Sweep:
    """Build the section; ``shared`` are the fields that all trials of the page share."""
    name = folder.resolve().name
    rows = rows_of(name, results, all_arms(results))
    compared = [row.arm for row in rows if row.reuses]
    own = {key: value for key, value in constant(specs_of(results)).items() if key not in shared}
    progress = progress_of(results.trials, planned)
    return Sweep(
        name=name,
        results=results,
        rows=rows,
        constants=said(own),
        statements=state(results, compared),
        comparisons=list(blocks_of(render_comparisons(compared))) if compared else [],
        arena=[block for table in arena_tables(results) for block in blocks_of(table)],
        tables=_tables(results),
        figures=sweep_figures(results),
        progress=progress,
        plan_problem=planned.problem,
        n_other_version=_other_version(results, planned, progress),
        damage=damage,
        conditions=conditions(results.trials),
        sweep_file=_text(folder / "sweep.yaml"),
    )


def _tables(results: Results) -> list[Text | Grid]:
    tables = [block for table in make_tables(results).renderables() for block in blocks_of(table)]
    tails = render_tails(results)
    if tails is not None:
        tables += [Text("time to the first token; p90 from 10 turns on, p99 from 100:"), *blocks_of(tails)]
    return tables


def _other_version(results: Results, planned: Planned, progress: Progress) -> int:
    """Count the trials here that are planned under another id, which means that another version ran them."""
    if planned.problem is not None or progress.n_unplanned is None:
        return 0
    unknown = sum(trial_id not in planned.specs for trial_id in results.trials["trial_id"])
    return max(0, unknown - progress.n_unplanned)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None  # a pipe would block
    except OSError:
        return None
