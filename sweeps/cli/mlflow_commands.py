"""Commands for MLflow's view of results."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sweeps.cli.options import DEFAULT_RESULTS, ResultsFolder, TrackingUri
from sweeps.cli.output import make_console, one_line_errors


def mlflow_sync(results: ResultsFolder = DEFAULT_RESULTS, uri: TrackingUri = None) -> None:
    """Write MLflow's missing or outdated runs from the Parquet files. It may be repeated."""
    _sync(results, uri, make_console())


def ui(
    results: ResultsFolder = DEFAULT_RESULTS,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Update MLflow's runs and serve its pages on this machine until Ctrl-C."""
    from sweeps.tracking.mlflow_ui import serve_ui

    console = make_console()
    uri = _sync(results, None, console)
    with one_line_errors():
        serve_ui(uri, port, partial(console.print, markup=False, highlight=False, soft_wrap=True))


def _sync(results: Path, uri: str | None, console: Console) -> str:
    """Rebuild MLflow, report what was done, and return its URI."""
    from sweeps.tracking.mlflow_sync import default_uri, mlflow_sync

    with one_line_errors():
        uri = uri or default_uri(results)
        for synced in mlflow_sync(results, uri):
            done = (
                "in use by another kvcomm, which writes MLflow itself"
                if synced.running
                else f"{synced.written} runs written"
            )
            console.print(f"{synced.sweep}: {synced.trials} trials, {done}", highlight=False, soft_wrap=True)
    return uri
