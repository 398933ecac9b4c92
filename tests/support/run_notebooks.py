"""Run the notebooks of ``analysis/notebooks`` from top to bottom.

Run as a module, this file writes the output into them: ``PYTHONPATH=tests/support python -m run_notebooks``.
"""

from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

FOLDER = Path(__file__).parents[2] / "analysis" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

_QUICK = """
import functools
import analysis.notebook as notebook
notebook.Results = functools.cache(notebook.Results)
notebook.encoded = lambda drawn, kind, dpi: b"\\x89PNG\\r\\n\\x1a\\n"
%reset -f
"""


def run_notebook(path: Path) -> NotebookNode:
    """Run a notebook and return it with its output, but without times, which would change it on every run."""
    notebook = nbformat.read(path, 4)
    _execute(notebook)
    return notebook


def run_notebooks() -> dict[Path, NotebookNode]:
    """Run all notebooks in one kernel, because its start and imports take as long as one notebook.

    The kernel clears its names between notebooks. The output of a failing cell is its error. The kernel reads each
    results folder once and paints no pictures: all that is kept of a picture is that it is there.
    """
    notebooks = {path: nbformat.read(path, 4) for path in NOTEBOOKS}
    cells = [cell for one in notebooks.values() for cell in (*one.cells, new_code_cell("%reset -f"))]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"  # ids must be unique in a notebook
    start = new_code_cell(_QUICK, id="start")
    _execute(new_notebook(cells=[start, *cells]), allow_errors=True)
    if start.outputs:
        raise RuntimeError(f"the kernel cannot be prepared: {start.outputs}")
    return notebooks


def _execute(notebook: NotebookNode, *, allow_errors: bool = False) -> None:
    resources = {"metadata": {"path": str(FOLDER)}}
    options = {"kernel_name": "python3", "timeout": 300, "record_timing": False, "allow_errors": allow_errors}
    NotebookClient(notebook, **options, resources=resources).execute()


if __name__ == "__main__":
    for path in NOTEBOOKS:
        nbformat.write(run_notebook(path), path)
