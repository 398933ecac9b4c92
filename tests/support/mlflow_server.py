"""An MLflow server of a test's own, on loopback."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ray_head import free_port

_PATIENCE_S = 120.0


@contextmanager
def mlflow_server(store: str, folder: Path) -> Iterator[str]:
    """Run a server on the database ``store``, with its artifacts in ``folder``, and yield its address."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_BACKEND_STORE_URI": store,
        "MLFLOW_ARTIFACTS_DESTINATION": str(folder),
    }
    with (folder / "server.log").open("wb") as said:
        # A session of its own, so that its helpers end with it.
        server = subprocess.Popen(command, env=environment, stdout=said, stderr=said, start_new_session=True)
        try:
            _wait_for(server, f"http://127.0.0.1:{port}/health", folder / "server.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _wait_for(server: "subprocess.Popen[bytes]", health: str, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while server.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(health, timeout=2):
            return
        time.sleep(0.2)
    raise RuntimeError(f"the MLflow server did not start: {log.read_text(errors='replace')[-2000:]}")
