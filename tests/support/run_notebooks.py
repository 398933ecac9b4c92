"""Runs the notebooks of ``analysis/notebooks`` from top to bottom.

As a module it writes what they show into them: ``PYTHONPATH=tests/support python -m run_notebooks``.
"""

from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parents[2] / "analysis" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def run_notebook(path: Path) -> NotebookNode:
    """The notebook with what its cells now show; without times, which would change it every time."""
    notebook = nbformat.read(path, 4)
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, kernel_name="python3", timeout=300, record_timing=False, resources=resources).execute()
    return notebook


if __name__ == "__main__":
    for path in NOTEBOOKS:
        nbformat.write(run_notebook(path), path)
