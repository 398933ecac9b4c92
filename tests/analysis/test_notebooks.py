"""The notebooks run from top to bottom on the shipped results, and what they hold is what these give."""

import nbformat
import pytest
from run_notebooks import NOTEBOOKS, run_notebooks

from analysis.figures.all_figures import FIGURES
from analysis.paper import PAPER_TABLES
from harness.spec import TrialSpec


@pytest.fixture(scope="module")
def now():
    """The notebooks with what their cells now show."""
    return run_notebooks()


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, now):
    """Catches a cell that fails, and a table in the repository that is not what its function now gives. Pictures are
    only counted: their bytes differ between versions of a font."""
    for before, after in zip(nbformat.read(path, 4).cells, now[path].cells, strict=True):
        assert [output["evalue"] for output in after.get("outputs", []) if output.output_type == "error"] == []
        assert texts(before) == texts(after)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_results_without_those_sweeps(path, write, make_result, capsys):
    """Catches a notebook that fails where a sweep is missing, instead of saying so and going on."""
    other = write(make_result(TrialSpec(agents=2), sweep="other"))
    cells = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    source = "\n".join(cells)
    assert source.count('"../embedded"') == 1
    exec(source.replace("../embedded", str(other)), {})
    assert capsys.readouterr().out.count("Markdown object") >= len(cells) - 1


def test_every_table_and_figure_is_in_a_notebook():
    """Catches a table or figure that was forgotten."""
    text = "".join(path.read_text() for path in NOTEBOOKS)
    assert [number for number in PAPER_TABLES if f'show_paper_table(\\"{number}\\")' not in text] == []
    assert [name for name in FIGURES if f'show_figures(\\"{name}\\"' not in text] == []


def texts(cell):
    """What a cell shows, as text; of a picture only that it is there."""
    return [output.get("text") or output["data"]["text/plain"] for output in cell.get("outputs", [])]
