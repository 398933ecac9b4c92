"""A Ray cluster of our own on this machine, closed to everybody else.

Every port is bound to loopback and asks for a token, except for Ray's metrics and health checks. This run makes the
token, and only the cluster's processes have it, in their environment.
"""

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray._private import ray_constants

from sweeps.language.strict_yaml import SweepError
from sweeps.run import ray_authentication
from sweeps.run.cluster_folder import cluster_folder

LOOPBACK = "127.0.0.1"

_OBJECT_STORE_BYTES = 128 * 1024**2  # results are small; KV never travels
_LOOPBACK_IS_AN_ADDRESS = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
"""The variable is set to 0, as Ray does on laptops to avoid firewall prompts. Otherwise Ray replaces loopback by the
machine's network address, and its processes listen everywhere."""


def closed_variables() -> dict[str, str | None]:
    """Return the environment, for Ray's processes and ours, of a cluster on loopback with a new token."""
    return {
        ray_authentication.MODE: "token",
        ray_authentication.TOKEN: secrets.token_hex(32),
        "RAY_ENABLE_K8S_TOKEN_AUTH": None,  # Ray would ask Kubernetes about a token that it does not know
        _LOOPBACK_IS_AN_ADDRESS: "0",
        "RAY_USAGE_STATS_ENABLED": os.environ.get("RAY_USAGE_STATS_ENABLED", "0"),
    }


@contextmanager
def own_cluster(cpus: int) -> Iterator[None]:
    """Start a one-node cluster, connect to it, and end it. Raises ``SweepError`` if it cannot be closed to others."""
    with cluster_folder() as folder, ray_authentication.variables(closed_variables()):
        try:
            _start(cpus, str(folder))
            # Ray has read the token, and no other child of this process needs it.
            os.environ.pop(ray_authentication.TOKEN)
            _check()
            yield
        finally:
            ray.shutdown()


def _start(cpus: int, folder: str) -> None:
    # Ray reads the variable at import, which may be long ago.
    earlier, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address=LOOPBACK,
            _temp_dir=folder,
        )
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = earlier


def _check() -> None:
    gcs_address = ray.get_runtime_context().gcs_address
    if (
        gcs_address.rpartition(":")[0] != LOOPBACK
        or ray_authentication.answers(gcs_address, with_token=False) is not False
    ):
        raise SweepError(
            f"Ray {ray.__version__} started a cluster at {gcs_address} that is open to others; allowed: a version with "
            "token authentication, or --in-process"
        )
