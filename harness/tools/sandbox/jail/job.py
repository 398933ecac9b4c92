"""What a sandboxed process is told; written by the caller, read by ``main.py``."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to run and how to confine it."""

    code: str

    namespaces: bool
    """Whether to make namespaces and a minimal root; without them the code sees all files."""

    library: list[str]
    """Files and folders that the code may read: the standard library and what it loads."""

    uid: int | None
    """User and group to become; None to stay."""

    memory_bytes: int
    """Address space of the process."""

    timeout_s: float
    """Limits processor time, and the wall clock should the caller be gone."""

    required: list[str]
    """Layers without which the code must not run."""

    leave_out: list[str]
    """Layers not to set up, so that tests can show what an attack does without them."""

    pass_fds: list[int]
    """Descriptors that the code keeps, besides the standard ones."""
