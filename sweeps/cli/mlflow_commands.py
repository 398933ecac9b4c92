"""Commands for MLflow's view of results."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from harness.results.sweep_folder import sweep_folders
from sweeps.cli.missing_packages import require_packages
from sweeps.cli.options import DEFAULT_RESULTS, ResultsFolder, TrackingUri
from sweeps.cli.output import make_console, one_line_errors
from sweeps.tracking.background_writer import tracking_uri
from sweeps.wording import say

Traces = Annotated[
    bool, typer.Option("--traces", help="Write a trace of every item; without it, only for sweeps of up to 100 items.")
]


def mlflow_sync(
    results: ResultsFolder = DEFAULT_RESULTS,
    uri: TrackingUri = None,
    report: Annotated[
        bool | None,
        typer.Option("--report/--no-report", help="Add each sweep's report; by default that of up to 100 trials."),
    ] = None,
    traces: Traces = False,
) -> None:
    """Write MLflow's missing or outdated runs from the Parquet files. It may be repeated."""
    require_packages("mlflow-sync", "mlflow")
    _sync(results, uri, make_console(), report=report, traces=traces)


def ui(
    results: ResultsFolder = DEFAULT_RESULTS,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
    traces: Traces = False,
) -> None:
    """Update MLflow's runs and serve its pages on this machine until Ctrl-C."""
    require_packages("ui", "mlflow")
    from sweeps.tracking.mlflow_ui import serve_ui

    console = make_console()
    # A page is waited for; `kvcomm mlflow-sync` adds the reports.
    uri = _sync(results, None, console, report=False, traces=traces)
    with one_line_errors():
        folders = sweep_folders(results)
        serve_ui(uri, port, partial(say, console), folders[0].resolve().name if len(folders) == 1 else None)


def _sync(results: Path, uri: str | None, console: Console, *, report: bool | None, traces: bool) -> str:
    """Rebuild MLflow, say what was done, and return its URI."""
    from sweeps.tracking.mlflow_sync import Extras, mlflow_sync

    with one_line_errors():
        uri = uri or tracking_uri(sweep_folders(results)[0].resolve().parent)
        for synced in mlflow_sync(results, uri, Extras(report, traces)):
            done = (
                "in use by another kvcomm, which writes MLflow itself"
                if synced.running
                else f"{synced.written} runs written"
            )
            say(console, f"{synced.sweep}: {synced.trials} trials, {done}")
    return uri
