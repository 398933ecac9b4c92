"""MLflow's pages for a results folder, on loopback, until Ctrl-C.

Pages of other sites in the user's browser cannot read or change runs: the server answers only to its own address, and
refuses changes that other pages request. Programs on this machine can do both.
"""

import json
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable

from harness.redaction import redact
from sweeps.loopback_server import HOST, ServerError, free_port, serve
from sweeps.tracking.experiment_view import has_view, key_of_view
from sweeps.tracking.mlflow_process import TrackingError
from sweeps.tracking.mlflow_runs import EXPERIMENT


def serve_ui(uri: str, port: int, say: Callable[[str], None], sweep: str | None = None) -> None:
    """Serve the runs at ``uri`` and return when interrupted. Raises ``TrackingError`` if it cannot serve them.

    The address that is said is that of all runs, or of the view of one sweep.
    """
    hosts, address = [f"{host}:{port}" for host in (HOST, "localhost")], f"http://{HOST}:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--allowed-hosts", ",".join(hosts), "--x-frame-options", "SAMEORIGIN"]
    command += ["--cors-allowed-origins", ",".join(f"http://{host}" for host in hosts)]
    try:
        free_port(port)
        serve(
            "the MLflow server",
            command,
            f"{address}/health",
            lambda: say(f"{address}/#/experiments/{_page(address, sweep)} (Ctrl-C ends it)"),
            # The environment passes the URI, since everybody on the machine may read a process's arguments.
            environment={
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "false",
                "MLFLOW_BACKEND_STORE_URI": uri,
            },
            cleaned=lambda line: redact(line, uri),
        )
    except ServerError as error:
        raise TrackingError(str(error)) from None


def _page(address: str, sweep: str | None) -> str:
    """Return the part of the page's address that names the experiment and, if there is one, the view of a sweep."""
    query = urllib.parse.urlencode({"experiment_name": EXPERIMENT})
    try:
        with urllib.request.urlopen(  # noqa: S310 - our own address
            f"{address}/api/2.0/mlflow/experiments/get-by-name?{query}", timeout=60
        ) as answer:
            experiment = json.load(answer)["experiment"]
            number, tags = str(experiment["experiment_id"]), [tag["key"] for tag in experiment.get("tags", [])]
    except (OSError, ValueError, KeyError) as error:
        raise TrackingError(f"the MLflow server does not show the experiment {EXPERIMENT!r}: {error}") from None
    # The front page and the experiment's own page are about language models in production.
    page = f"{number}/runs?workflowType=machine_learning"
    if sweep is None or not has_view(tags, sweep):
        return page
    return f"{page}&compareRunsMode=CHART&viewStateShareKey={key_of_view(sweep)}"
