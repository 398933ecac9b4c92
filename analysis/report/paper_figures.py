"""The paper's figures under their numbers, drawn from our results, and the figures of a sweep."""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.figures.all_figures import FIGURES
from analysis.figures.parts.drawing import Drawn, NothingToDrawError
from analysis.paper.printed_numbers import load_paper
from analysis.report.svg.panels import Panels, panels_of_figure
from analysis.results import Results

PAPER_FIGURES = {
    "1": "figure_1",
    "4": "figure_4",
    "A.1": "figure_a1",
    "A.3": "figure_a3",
    "A.4 to A.11": "figure_a4_a11",
    "A.12": "figure_a12",
}
"""Names of our figures by the paper's numbers."""
OF_A_SWEEP = ("speedup_length", "reuse_warmup", "no_reuse_reasons")
"""Figures in the section of a sweep. The explorer, the paper's section and the viewer show what the others do."""
OF_TABLES = {"2": ("ttft_phases", "table_2"), "6": ("sensitivity", "table_6")}
"""Our figures of the paper's tables, by number, and the sweeps they are drawn from first."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure on the page."""

    name: str
    title: str
    """What tells it from the other pictures of the figure: model, workload, agent."""
    panels: Panels


@dataclass(frozen=True, slots=True)
class FigureSection:
    """A figure of the paper, or one of ours."""

    number: str
    """The paper's number; empty if it is not a figure of the paper."""
    caption: str
    pictures: list[Picture]
    source: str
    """The sweep that it shows; empty if none was run."""
    missing: str
    """What it needs, if there are no pictures."""
    others: list[str]
    """Sweeps that could be shown as well."""


def paper_figures(sweeps: Sequence[tuple[str, Results]]) -> list[FigureSection]:
    """Return every figure of the paper, drawn from the sweep of its name, or else from the first that allows it."""
    captions = load_paper().figures
    return [
        _section(number, name, " ".join(captions[number].split()), sweeps) for number, name in PAPER_FIGURES.items()
    ]


def sweep_figures(results: Results) -> list[FigureSection]:
    """Return the figures of one sweep that its results allow."""
    sections = []
    for name in OF_A_SWEEP:
        try:
            pictures = _pictures(FIGURES[name].draw(results))
        except NothingToDrawError:
            continue
        sections.append(FigureSection("", FIGURES[name].caption, pictures, "", "", []))
    return sections


def table_figures(sweeps: Sequence[tuple[str, Results]]) -> dict[str, FigureSection]:
    """Return our figures of the paper's tables by number, those that the results allow."""
    found = {
        number: _section("", name, FIGURES[name].caption, [one for one in sweeps if one[0] == sweep] or sweeps, sweep)
        for number, (name, sweep) in OF_TABLES.items()
    }
    return {number: section for number, section in found.items() if section.pictures}


def _section(
    number: str, name: str, caption: str, sweeps: Sequence[tuple[str, Results]], first: str | None = None
) -> FigureSection:
    named = first or name
    ordered = sorted(sweeps, key=lambda sweep: sweep[0] != named)
    missing = ""
    for index, (sweep, results) in enumerate(ordered):
        try:
            drawn = FIGURES[name].draw(results)
        except NothingToDrawError as nothing:
            missing = missing or str(nothing)
            continue
        others = [] if sweep == named else [other for other, _ in ordered[index + 1 :]]
        return FigureSection(number, caption, _pictures(drawn), sweep, "", others)
    return FigureSection(number, caption, [], "", missing, [])


def _pictures(drawn: Sequence[Drawn]) -> list[Picture]:
    return [Picture(one.name, _title(one), panels_of_figure(one.figure)) for one in drawn]


def _title(drawn: Drawn) -> str:
    title = drawn.figure.get_suptitle()
    return title.replace(r"\$", "$")
