"""The cluster that ``RAY_ADDRESS`` names. This module loads no Ray: commands ask before they start."""

import os


def named_cluster() -> str | None:
    """Return the address of the cluster; None if a run starts one of its own on this machine."""
    address = os.environ.get("RAY_ADDRESS")
    return address if address and address != "local" else None
