"""Arguments and options that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

from harness.results.uri_mirror import mirror_of
from sweeps.cli.output import one_line_errors
from sweeps.cli.shipped import complete_sweep

DEFAULT_RESULTS = Path("results")


def fetched(location: str, *sweeps: str) -> Path:
    """Return the folder of a location. Fetch these sweeps, or all, first if it is a URI."""
    with one_line_errors():
        mirror = mirror_of(location)
        if mirror is None:
            return Path(location)
        for sweep in sweeps or ("",):
            mirror.pull(sweep)
        return mirror.folder


SweepFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="SWEEP",
        help="A sweep file, or the name of one that kvcomm brings, such as smoke.",
        autocompletion=complete_sweep,
    ),
]
Location = Annotated[str, typer.Option("--results", metavar="PATH|URI", help="Where the results are.")]
ResultsFolder = Annotated[
    Path, typer.Argument(metavar="RESULTS", parser=fetched, help="A results folder or URI, or a sweep's folder.")
]
Overrides = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the sweep; a list makes an axis.")
]
Limit = Annotated[int | None, typer.Option("--limit", help="Items per trial, for every workload.")]
Profile = Annotated[
    str | None, typer.Option("--profile", metavar="NAME", help="Profile of the sweep file, if it has profiles.")
]
TrackingUri = Annotated[
    str | None,
    typer.Option("--tracking-uri", metavar="URI", help="MLflow's URI. Default: MLFLOW_TRACKING_URI, or the results."),
]
AllowUnsafeCode = Annotated[
    bool, typer.Option("--allow-unsafe-code", help="Run model-written code even where it cannot be confined.")
]
FromSample = Annotated[int, typer.Option("--from-sample", metavar="N", help="Leave out the samples before index N.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
