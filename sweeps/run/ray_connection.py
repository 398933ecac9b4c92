"""A connection to a Ray cluster: the one at ``RAY_ADDRESS``, or our own on this machine, which ends after use.

Our own cluster dies with this process, whatever kills it: Ray asks the kernel to end its processes with their parent,
and its two agents notice within two minutes. Actors on another cluster end with the driver that started them.
"""

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray._private import services
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray.exceptions import AuthenticationError, RayError

from harness.environment import usable_cores
from kvcomm_core.config import one_line
from sweeps.language.strict_yaml import SweepError
from sweeps.run.own_cluster import own_cluster
from sweeps.run.placement import ACCELERATOR, LabelledNode
from sweeps.run.ray_address import named_cluster
from sweeps.run.ray_authentication import MODE, answers, variables

OPEN = "the Ray cluster at {} asks for no token: anybody who reaches it may run commands on it"
TOKENS = "its token in RAY_AUTH_TOKEN, in the file that RAY_AUTH_TOKEN_PATH names, or in ~/.ray/auth_token"

_KNOCK_S = 5.0
_JOB = RAY_JOB_CONFIG_JSON_ENV_VAR
"""A variable of the processes that run as jobs."""


@dataclass(frozen=True, slots=True)
class Connection:
    """The cluster that this process is connected to."""

    grows: bool
    """Whether nodes may join the cluster."""
    warning: str | None = None
    """One line for the user if the cluster takes commands from anybody. Otherwise None."""


@contextmanager
def connected(plug_ins: Sequence[Path] = ()) -> Iterator[Connection]:
    """Connect, and disconnect at the end. Raises ``SweepError`` if ``RAY_ADDRESS`` has no cluster or it refuses us.

    ``plug_ins`` are modules and packages that replicas on other machines need and lack. A job has sent them already.
    """
    address = named_cluster()
    if ray.is_initialized():
        yield Connection(grows=True)
    elif address is not None:
        with _joined(address, () if _JOB in os.environ else plug_ins) as connection:
            yield connection
    else:
        with own_cluster(usable_cores()):
            yield Connection(grows=False)


@contextmanager
def _joined(address: str, plug_ins: Sequence[Path]) -> Iterator[Connection]:
    """Connect with this user's own token, if the cluster asks for one."""
    modules = {"py_modules": list(map(str, plug_ins))} if plug_ins else None
    said = f"RAY_ADDRESS is {address!r}"
    try:
        gcs_address = _knock(address)
    except (OSError, ValueError) as error:
        raise SweepError(f"{said}; no Ray cluster answers there: {one_line(error)}") from None
    is_open = answers(gcs_address, with_token=False) if gcs_address else None
    usage = os.environ.get("RAY_USAGE_STATS_ENABLED", "0")
    mode = os.environ.get(MODE) or ("token" if is_open is False else None)
    with variables({MODE: mode, "RAY_USAGE_STATS_ENABLED": usage}):
        # Ray would retry a refused token for 20 s.
        if gcs_address and is_open is False and not answers(gcs_address, with_token=True):
            raise SweepError(f"{said}; the cluster there wants a token that is not ours; allowed: {TOKENS}")
        try:
            try:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=modules)
            except AuthenticationError:
                raise SweepError(f"{said}; {MODE} is 'token', but there is none; allowed: {TOKENS}") from None
            except (OSError, ValueError) as error:
                raise SweepError(f"{said}; no Ray cluster answers there: {one_line(error)}") from None
            except (RuntimeError, RayError) as error:  # as where it has another version of Ray or Python
                raise SweepError(f"{said}; the cluster there cannot be joined: {one_line(error)}") from None
            yield Connection(grows=True, warning=OPEN.format(address) if is_open else None)
        finally:
            ray.shutdown()


def _knock(address: str) -> str | None:
    """Return the GCS's ``host:port``. Raise ``OSError`` if nobody listens there: Ray would retry for minutes.

    Return None for an address with ``://``, which is left to Ray.
    """
    gcs_address: str | None = None
    if "://" not in address:
        gcs_address = services.canonicalize_bootstrap_address(address)
    if gcs_address:
        host, _, port = gcs_address.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_S).close()
    return gcs_address


def live_nodes() -> list[LabelledNode]:
    """Return the nodes that are alive now."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    alive = (node for node in nodes if node["Alive"])
    return [LabelledNode(node["Resources"], (node.get("Labels") or {}).get(ACCELERATOR)) for node in alive]
