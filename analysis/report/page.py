"""The report: one HTML file that needs no network. Equal results give equal bytes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from analysis.claims.claims_section import claims_section
from analysis.report.cells import constant, each_once, said, specs_of, without_rough_times
from analysis.report.damage import find_damage
from analysis.report.embedding import ASSETS, page_script, policy, script_json
from analysis.report.explorer import explorer_data
from analysis.report.failures import Planned
from analysis.report.headline import headline
from analysis.report.overview import gaps_of, merged_conditions, method_lines, what_ran
from analysis.report.paper_figures import paper_figures, table_figures
from analysis.report.paper_grids import paper_sections
from analysis.report.strips import strips
from analysis.report.sweep_section import Sweep, sweep_section
from analysis.report.transcripts import choose
from analysis.results import Results
from harness.results.sweep_folder import sweep_folders
from harness.text import displayed

_SECTIONS = (
    ("answer", "Answer"),
    ("explore", "Explore"),
    ("paper", "Paper"),
    ("claims", "Claims"),
    ("conversations", "Conversations"),
    ("sweeps", "Sweeps"),
    ("failures", "Failures"),
    ("environment", "Environment"),
)
"""Anchors and names of the page's sections; the template includes a file for each."""


def render_report(folder: Path, planned: Mapping[str, Planned]) -> str:
    """Render the page for a results folder, or for one sweep if the folder is that of a sweep.

    ``planned`` has an entry for each sweep. The page lists damaged files and leaves their content out. Raises
    ``StoreError`` if there are no results.
    """
    folders = sweep_folders(folder)
    damages = {of_sweep: find_damage(of_sweep) for of_sweep in folders}
    whole = Results(
        folder,
        without={of_sweep / file.path for of_sweep, damage in damages.items() for file in damage.damaged},
        without_attempts={of_sweep: damage.incomplete for of_sweep, damage in damages.items()},
    )
    shared = constant(specs_of(whole))
    sweeps = [
        sweep_section(one, whole.of_sweep(one.resolve().name), damages[one], planned[one.resolve().name], shared)
        for one in folders
    ]
    first = _first_screen(whole, sweeps)
    chosen = choose([(sweep.name, sweep.results, sweep.rows) for sweep in sweeps])
    script = page_script()
    return _template().render(
        title=folder.resolve().name,
        sections=_SECTIONS,
        policy=policy(script),
        script=script,
        sweeps=sweeps,
        constants=said(shared),
        **first,
        conversations=chosen,
        conversation_json=script_json(chosen.to_dict(first["headline"].method if first["headline"] else "")),
        **_paper(whole, sweeps),
        claims=claims_section(whole),
    )


def _first_screen(whole: Results, sweeps: list[Sweep]) -> dict[str, Any]:
    rows = [row for sweep in sweeps for row in sweep.rows]
    once = without_rough_times(each_once(rows))
    answers = headline(once)
    environment = merged_conditions(sweeps)
    unknown: dict[str, list[str]] = {}
    for sweep in sweeps:
        if sweep.progress.unknown_fields:
            unknown.setdefault(", ".join(sweep.progress.unknown_fields), []).append(sweep.name)
    return {
        "headline": answers,
        "instead": [] if answers else list(dict.fromkeys(one for sweep in sweeps for one in sweep.statements)),
        "strips": strips([row for row in once if answers and row.arm.method == answers.method]),
        "methods": method_lines(once),
        "ran": what_ran(whole.each_trial_once(), environment),
        "environment": environment,
        "gaps": gaps_of(sweeps),
        "outdated": sum(sweep.n_other_version for sweep in sweeps),
        "unknown_fields": list(unknown.items()),
        "explorer_json": script_json(explorer_data(rows)),
    }


def _paper(whole: Results, sweeps: list[Sweep]) -> dict[str, Any]:
    named = [(sweep.name, sweep.results) for sweep in sweeps]
    return {
        "papers": paper_sections(whole),
        "paper_figures": paper_figures(named),
        "table_figures": table_figures(named),
    }


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS),
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
