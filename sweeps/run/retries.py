"""The retry rule: what becomes of a trial whose replica is lost.

A trial is deterministic and safe to repeat, so it runs again wherever there is room when its replica or node dies, or
when its replica is ended because it sent no heartbeat or finished no sample for far too long (``watch.py``). A trial
that may itself be what kills replicas fails after ``MAX_TRIES`` of them. If until then no replica has loaded its model,
the model is to blame, and every waiting trial of it fails.

A trial that raises an error (``error``), runs out of memory (``oom``) or exceeds the sweep's deadline (``timeout``) is
not retried: it would do so again.
"""

from typing import Literal

MAX_TRIES = 3
"""Replicas that may die under a trial before it fails."""

MAX_STARTS = 3
"""Processes in a row that may fail to start for one replica before it is given up."""


def after_loss(tries: int, *, model_was_loaded: bool) -> Literal["retry", "fail trial", "fail model"]:
    """Return what to do with a trial under which ``tries`` replicas have died."""
    if tries < MAX_TRIES:
        return "retry"
    return "fail trial" if model_was_loaded else "fail model"
