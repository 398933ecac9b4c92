"""``kvcomm explore``: the results in a notebook."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from harness.results.sweep_folder import sweep_folders
from sweeps.cli.missing_packages import require_packages
from sweeps.cli.options import DEFAULT_RESULTS, ResultsFolder
from sweeps.cli.output import fail, make_console, one_line_errors
from sweeps.explore_server import ExploreError, serve_notebook
from sweeps.wording import say


def explore(
    results: ResultsFolder = DEFAULT_RESULTS,
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="Port on 127.0.0.1. Default: a free one.")
    ] = None,
    notebook: Annotated[
        Path | None,
        typer.Option("--notebook", metavar="FILE.py", help="Open this notebook to change it; made if it is not there."),
    ] = None,
) -> None:
    """Serve a notebook on the results, on this machine and behind a token, until Ctrl-C."""
    require_packages("explore", "marimo", extra="explore")
    with one_line_errors():
        sweep_folders(results)
    try:
        serve_notebook(results, port, notebook, partial(say, make_console()))
    except ExploreError as error:
        fail(str(error))
