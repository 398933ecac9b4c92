"""The instructions for a sandboxed process; the caller writes them, and ``main.py`` reads them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The code to run and how to confine it."""

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
    """Limits processor time, and also wall-clock time in case the caller is gone."""

    required: list[str]
    """Layers without which the code must not run."""

    leave_out: list[str]
    """Layers to leave out, so that tests can show the effect of an attack without them."""

    pass_fds: list[int]
    """Descriptors that the code keeps besides the standard ones."""
