"""A Ray head of its own for tests. Run as a process, this file prints the addresses of its dashboard and of its GCS,
and ends with its stdin.

Everything listens on loopback, on ports that are free, so that it goes with any other Ray on the machine. Whether it
asks for a token is up to RAY_AUTH_MODE, which has to be set.
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
    """A head that runs."""

    url: str
    """Of its dashboard."""
    gcs_address: str
    pid: int
    """Ray's processes are its descendants."""


@contextmanager
def ray_head(mode: str, **variables: str) -> Iterator[Head]:
    """Start a head with that mode of authentication and more variables of its environment, and end it."""
    with tempfile.TemporaryDirectory(prefix="kvcomm-", dir="/tmp") as folder:  # a short path: Ray's sockets are below
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
            [sys.executable, __file__],
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
    """A new token for a head, and for those that are to reach it."""
    path = folder / "token"
    path.write_text(secrets.token_hex(32))
    return path


def free_port() -> int:
    """A port of loopback that nobody uses right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Until stdin is closed."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 2,
            "node_ip_address": "127.0.0.1",
            "object_store_memory": 100 * 2**20,
            "include_dashboard": True,
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
    # Else Ray takes loopback for a mistake, and the head's own processes look for it at the machine's other address.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    main()
