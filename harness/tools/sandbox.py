"""Runs Python that a model wrote, in a process that can reach nothing of the machine.

``run_python(code)`` starts a fresh interpreter, which locks itself in and only then runs the code (``jail/main.py``).
The code has the standard library, threads, an empty folder in memory where the machine allows one, and nothing else:
no other files, no network, no second process. What it has of chance is fixed, so the same code gives the same result.

Kernels and containers differ in what they allow, so several layers overlap; ``jail/layers.py`` names them and says
which suffice. ``active_layers()`` are those of this machine, found by trying. Each run reports its own, and one that
cannot have them all is refused rather than run with less. Without root and without namespaces the limit on threads
counts all tasks of the user, so the code can perhaps start none.

Nothing of the caller is inherited but what is listed here, so it may be a process that holds a model or a GPU.
"""

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

from harness.tools.jail.layers import UnsafeSandboxError, is_safe
from harness.tools.sandboxed_process import SandboxedProcess, SandboxOutcome, SandboxResult, started

__all__ = [
    "MEMORY_BYTES",
    "TIMEOUT_S",
    "SandboxOutcome",
    "SandboxResult",
    "UnsafeSandboxError",
    "active_layers",
    "is_safe",
    "require_safe",
    "run_python",
    "sandboxed",
]

TIMEOUT_S = 10.0
MEMORY_BYTES = 512 << 20

_WRAPPERS = ("bubblewrap", "namespaces", None)


def run_python(
    code: str,
    *,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int = MEMORY_BYTES,
    stdin: str = "",
    allow_unsafe: bool = False,
) -> SandboxResult:
    """Run ``code`` as a main module and wait for its end.

    ``timeout_s`` is wall-clock time from the start of the interpreter, ``memory_bytes`` the address space of the
    process. Output is kept up to 64 KiB, stdout and stderr together; more ends the run. ``allow_unsafe`` runs the code
    even where the layers do not suffice.
    """
    try:
        require_safe(allow_unsafe)
    except UnsafeSandboxError as error:
        return SandboxResult("refused", "", str(error), 0.0, ())
    with sandboxed(code, timeout_s=timeout_s, memory_bytes=memory_bytes, stdin=stdin) as process:
        return process.result()


def active_layers() -> tuple[str, ...]:
    """The layers that confine code on this machine, found by running an empty program; once per process.

    Empty where there is no sandbox at all, which is anywhere but on Linux.
    """
    return _wrapper_and_layers()[1] if sys.platform == "linux" else ()


def require_safe(allow_unsafe: bool) -> None:
    """Raise ``UnsafeSandboxError`` unless this machine's layers suffice, or ``allow_unsafe``."""
    if sys.platform != "linux":
        raise UnsafeSandboxError(f"code written by a model runs on Linux only, and this is {sys.platform}")
    layers = active_layers()
    if not allow_unsafe and not is_safe(layers):
        raise UnsafeSandboxError(
            f"this machine cannot confine code written by a model: it has {', '.join(layers) or 'nothing'}; needed: "
            "bubblewrap, or Landlock with seccomp or namespaces; --allow-unsafe-code runs the code as it is"
        )


@contextmanager
def sandboxed(
    code: str,
    *,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int = MEMORY_BYTES,
    stdin: str = "",
    pass_fds: Sequence[int] = (),
    leave_out: Sequence[str] = (),
) -> Iterator[SandboxedProcess]:
    """A run that was started, and that is ended with the block; ask ``require_safe`` first.

    ``pass_fds`` stay open in it under the same numbers. ``leave_out`` names layers that are not set up: with it, tests
    show what an attack does without them.
    """
    wrapper, layers = _wrapper_and_layers()
    if wrapper in leave_out:
        wrapper = None
    with started(
        code,
        wrapper=wrapper,
        required=() if leave_out else layers,
        timeout_s=timeout_s,
        memory_bytes=memory_bytes,
        stdin=stdin,
        pass_fds=pass_fds,
        leave_out=leave_out,
    ) as process:
        yield process


@cache
def _wrapper_and_layers() -> tuple[str | None, tuple[str, ...]]:
    reasons = []
    for wrapper in _WRAPPERS:
        if wrapper == "bubblewrap" and shutil.which("bwrap") is None:
            continue
        with started("", wrapper=wrapper, required=(), timeout_s=TIMEOUT_S, memory_bytes=MEMORY_BYTES) as process:
            result = process.result()
        if result.outcome == "ok":
            return wrapper, result.layers
        reasons.append(result.stderr or result.outcome)
    raise UnsafeSandboxError(f"an empty program could not be run in the sandbox: {'; '.join(reasons)}")
