"""A separate Ray head for tests. Run as a process, this file prints the addresses of its dashboard and its GCS, and
ends when its stdin closes.

Everything listens on free loopback ports, so that the head can run beside any other Ray on the machine. RAY_AUTH_MODE
must be set; it decides whether the head asks for a token.
"""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil


class Head(NamedTuple):
    """A running head."""

    url: str
    """URL of the dashboard."""
    gcs_address: str
    pid: int
    """Process id of the head; Ray's processes are its descendants."""


@contextmanager
def ray_head(mode: str, *, dashboard: bool = True, **variables: str) -> Iterator[Head]:
    """Start a head with this authentication mode and these extra environment variables, and end it.

    The dashboard, which takes jobs, is several processes; without it the head starts sooner and has no URL.
    """
    with tempfile.TemporaryDirectory(
        prefix="kvcomm-", dir="/tmp"
    ) as folder:  # a short path, since it holds Ray's sockets
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "RAY_AUTH_MODE": mode,
            "RAY_TMPDIR": folder,
            "OMP_NUM_THREADS": "1",
            "MLFLOW_TRACKING_URI": "",
            **variables,
        }
        process = subprocess.Popen(
            [sys.executable, __file__, str(int(dashboard))],
            env=environment,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert process.stdout is not None
            url, gcs_address = process.stdout.readline().split()
            yield Head(url, gcs_address, process.pid)
        finally:
            rays = psutil.Process(process.pid).children(recursive=True)
            process.communicate(timeout=60)
            psutil.wait_procs(rays, timeout=60)  # they write to the folder for a moment after their head has ended


def token_file(folder: Path) -> Path:
    """Write a new token for a head and its clients; return the file."""
    path = folder / "token"
    path.write_text(secrets.token_hex(32))
    return path


def free_port() -> int:
    """Return a loopback port that is free right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(dashboard: bool) -> None:
    """Run a head until stdin is closed."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 2,
            "node_ip_address": "127.0.0.1",
            "object_store_memory": 100 * 2**20,
            "include_dashboard": dashboard,
            "dashboard_host": "127.0.0.1",
            "dashboard_port": free_port(),
            "dashboard_agent_listen_port": free_port(),
        },
    )
    print(f"http://{cluster.webui_url} {cluster.gcs_address}", flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    assert os.environ["RAY_AUTH_MODE"] in ("token", "disabled")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Otherwise Ray treats loopback as a mistake, and the head's processes look for it at the machine's other address.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    main(bool(int(sys.argv[1])))
