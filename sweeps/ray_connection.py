"""A connection to a Ray cluster: the one at ``RAY_ADDRESS``, or one of our own on this machine, ended after use.

A cluster of our own dies with this process, whatever kills it: Ray asks the kernel to end its processes with their
parent, and actors on somebody else's cluster end with the driver that started them.
"""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from harness.environment import usable_cores
from sweeps.placement import Node
from sweeps.sweep_file import SweepError

_OBJECT_STORE_BYTES = 128 * 1024**2  # results are small; KV never travels


_KNOCK_S = 5.0
_OWN = ("localhost", "127.0.0.1", "::1")
"""Ray takes these for the machine's own address on its network."""


@contextmanager
def connected() -> Iterator[bool]:
    """Yields whether nodes may join the cluster. Raises ``SweepError`` if none answers at ``RAY_ADDRESS``."""
    if ray.is_initialized():
        yield True
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address := os.environ.get("RAY_ADDRESS"):
        try:
            _knock(address)
            ray.init(address=address, **quiet)
        except (ConnectionError, OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise SweepError(f"RAY_ADDRESS is {address!r}; no Ray cluster answers there: {reason}") from None
    else:
        # The cluster listens on loopback alone and lives as long as this process: a token would only be left behind.
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        ray.init(
            address="local",
            num_cpus=usable_cores(),
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            _node_ip_address="127.0.0.1",
            **quiet,
        )
    try:
        yield bool(address)
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise ``OSError`` if nobody listens at ``host:port``: Ray would try for minutes. Other forms are left to Ray."""
    host, _, port = address.rpartition(":")
    if host and "/" not in address and port.isdigit():
        if host in _OWN:
            host = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        socket.create_connection((host, int(port)), _KNOCK_S).close()


def live_nodes() -> list[Node]:
    """The resources of the nodes that are there now."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node["Resources"] for node in nodes if node["Alive"]]
