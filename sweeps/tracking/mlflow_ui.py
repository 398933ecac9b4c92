"""MLflow's pages for a results folder, on loopback, until Ctrl-C.

Pages of other sites in the user's browser cannot read or change runs: the server answers only to its own address, and
refuses changes that other pages request. Programs on this machine can do both.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import IO

from harness.redaction import redact
from sweeps.tracking.experiment_view import has_view, key_of_view
from sweeps.tracking.mlflow_process import TrackingError
from sweeps.tracking.mlflow_runs import EXPERIMENT

HOST = "127.0.0.1"

_PATIENCE_S = 120.0
_GRACE_S = 5.0


def serve_ui(uri: str, port: int, say: Callable[[str], None], sweep: str | None = None) -> None:
    """Serve the runs at ``uri`` and return when interrupted. Raises ``TrackingError`` if it cannot serve them.

    The address that is said is that of all runs, or of the view of one sweep.
    """
    _check_free(port)
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    hosts = [f"{host}:{port}" for host in (HOST, "localhost")]
    command += ["--allowed-hosts", ",".join(hosts), "--x-frame-options", "SAMEORIGIN"]
    command += ["--cors-allowed-origins", ",".join(f"http://{host}" for host in hosts)]
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "false",
        "MLFLOW_BACKEND_STORE_URI": uri,
    }
    with tempfile.TemporaryFile() as said:  # a pipe would need a reader as long as the server runs
        # The server gets its own session, so that its helpers end with it. The environment passes the URI, since
        # everybody on the machine may read a process's arguments.
        server = subprocess.Popen(  # noqa: S603
            command,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
        previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            address = f"http://{HOST}:{port}"
            if not _answers(server, f"{address}/health"):
                _end_group(server)
                raise TrackingError(f"the MLflow server did not start: {_last_line(said, uri)}")
            say(f"{address}/#/experiments/{_page(address, sweep)} (Ctrl-C ends it)")
            server.wait()
            raise TrackingError(
                f"the MLflow server ended by itself, exit code {server.returncode}: {_last_line(said, uri)}"
            )
        except KeyboardInterrupt:
            pass
        finally:
            _end_group(server)
            signal.signal(signal.SIGTERM, previous)


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise TrackingError(f"--port is {port}; allowed: a free port, and this one is not ({error})") from None


def _answers(server: "subprocess.Popen[bytes]", health: str) -> bool:
    """Return whether the server answers in time and does not end before."""
    deadline = time.monotonic() + _PATIENCE_S
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(health, timeout=2):  # noqa: S310 - our own address
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    return False


def _last_line(said: IO[bytes], uri: str) -> str:
    """Return the last line of the server's output."""
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    return redact(lines[-1], uri) if lines else "it said nothing"


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


def _end_group(server: "subprocess.Popen[bytes]") -> None:
    """End the server and its helpers, and kill those that do not react."""
    for ask in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, ask)
        except ProcessLookupError:
            return
        try:
            server.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            continue
