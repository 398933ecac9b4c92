"""The paper's tables in their own shape, beside the numbers that the paper prints."""

import pytest

from analysis.paper.printed_numbers import load_paper
from analysis.report.paper_figures import PAPER_FIGURES, paper_figures, table_figures
from analysis.report.paper_grids import paper_sections
from analysis.results import Results
from harness.spec import TrialSpec
from harness.workloads.recall import RecallSpec
from kvcomm_core.config import KVCommConfig


@pytest.fixture
def results(write, make_result):
    """Two and three agents answered recall; nothing else of the paper was run."""
    specs = [
        TrialSpec(agents=agents, workload=RecallSpec(), method=method, **parameters)
        for agents in (2, 3)
        for method, parameters in (("dense", {}), ("kvcomm", {"parameters": KVCommConfig()}))
    ]
    return Results(write(*(make_result(spec, samples=6) for spec in specs)))


def test_every_number_of_the_paper_is_there(results):
    """Catches a printed number that is lost or in another cell, and a table left out because nothing of it was run."""
    sections = paper_sections(results)
    paper = load_paper()
    assert list(dict.fromkeys(section.number for section in sections)) == list(paper.tables)
    for section in sections:
        if section.ours:
            continue  # only the part for which another workload stands in
        printed = paper.tables[section.number]
        expected = sorted(
            f"{value:.4g}" for _, numbers in printed.cells() for value in numbers.values() if value is not None
        )
        cells = [
            cell
            for grid in section.grids
            for row in grid.rows
            if "dense, points" not in row.heads[-1]
            for cell in row.cells
            if cell
        ]
        assert len([cell for cell in cells if cell.paper]) == len(expected)
        assert {cell.gap for cell in cells} == {"not run"}


def test_cells_hold_ours_and_theirs(results):
    """Catches numbers under another method or number of agents, and another task passed over in silence."""
    section = next(one for one in paper_sections(results) if one.number == "1")
    assert section.unlike == "another model and on another task: generated recall stories in place of mmlu"
    (grid,) = section.grids
    assert (grid.axis, grid.points) == ("agents", ["2", "3", "4", "5"])
    rows = {tuple(row.heads): row for row in grid.rows}
    reuse = rows["recall", "kvcomm", "reuse rate, %"].cells
    # The first of six samples is dense; the paper has 74.5 and 67.6 on MMLU.
    assert [number.text for number in reuse[0].ours] == ["83.3"]
    assert (reuse[0].paper, reuse[3].paper, reuse[3].gap) == ("74.5", "67.6", "not run")
    change = rows["recall", "kvcomm", "accuracy \N{MINUS SIGN} dense, points"].cells
    assert [number.text for number in change[1].ours] == ["+0.0"]
    assert change[1].paper == "+1.9"
    assert rows["recall", "cacheblend", "accuracy, %"].cells[0].gap == "not run"


def test_repeated_heads_are_told_apart(results):
    """Catches a head hidden although the row above has another, which would move a row to the wrong method."""
    section = next(one for one in paper_sections(results) if one.number == "1")
    above = ("", "", "")
    for row in section.grids[0].rows:
        assert row.heads[: row.repeated] == list(above[: row.repeated])
        assert row.heads[row.repeated] != above[row.repeated]
        above = tuple(row.heads)


def test_every_figure_has_its_number(results):
    """Catches a figure of the paper that vanishes because nothing was run for it."""
    assert list(PAPER_FIGURES) == list(load_paper().figures)
    sections = paper_figures([("s", results)])
    assert [section.number for section in sections] == list(PAPER_FIGURES)
    assert [section.missing.split()[0] for section in sections] == ["needs"] * len(sections)
    assert "2" in table_figures([("s", results)])
