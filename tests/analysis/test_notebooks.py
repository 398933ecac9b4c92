"""The notebooks run from top to bottom on the shipped results, and what they hold is what these give."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from analysis.figures.sweep import FIGURES
from analysis.paper_tables import PAPER_TABLES
from harness.spec import TrialSpec

FOLDER = Path(__file__).parents[2] / "analysis" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, monkeypatch):
    """Catches a cell that fails, and a table in the repository that is not what its function now gives. Pictures are
    only counted: their bytes differ between versions of a font."""
    monkeypatch.delenv("KVCOMM_RESULTS", raising=False)
    shipped, run = nbformat.read(path, 4), nbformat.read(path, 4)
    NotebookClient(run, kernel_name="python3", timeout=300, resources={"metadata": {"path": str(FOLDER)}}).execute()
    for before, after in zip(shipped.cells, run.cells, strict=True):
        assert texts(before) == texts(after)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_results_without_those_sweeps(path, write, make_result, monkeypatch, capsys):
    """Catches a notebook that fails where a sweep is missing, instead of saying so and going on."""
    monkeypatch.setenv("KVCOMM_RESULTS", str(write(make_result(TrialSpec(agents=2), sweep="other"))))
    cells = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    exec("\n".join(cells), {})
    assert capsys.readouterr().out.count("Markdown object") >= len(cells) - 1


def test_every_table_and_figure_is_in_a_notebook():
    """Catches a table or figure that was forgotten."""
    text = "".join(path.read_text() for path in NOTEBOOKS)
    assert [number for number in PAPER_TABLES if f'show_paper_table(\\"{number}\\")' not in text] == []
    assert [name for name in FIGURES if f'show_figures(\\"{name}\\"' not in text] == []


def texts(cell):
    """What a cell shows, as text; of a picture only that it is there."""
    return [output.get("text") or output["data"]["text/plain"] for output in cell.get("outputs", [])]
