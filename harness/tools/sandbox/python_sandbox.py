"""Run model-written Python in a process that cannot reach anything on the machine.

``run_python(code)`` starts a fresh interpreter, which locks itself in and only then runs the code (``jail/main.py``).
The code has the standard library, threads, an empty folder in memory, and nothing else: no other files, no network, no
second process. Sources of randomness are fixed, so the same code gives the same result.

There is only one level of safety. A machine is safe only with the layers that ``jail/layers.py`` calls needed, whether
root runs the harness or not. Other layers overlap with them where the kernel has them. ``active_layers()`` finds the
layers of this machine by trying. Each run reports its own layers, and a run that cannot have all needed layers is
refused rather than run with fewer.

The kernel must be 5.12 or later and let the caller create namespaces: as root of the machine, or in a user namespace
(``user.max_user_namespaces``, ``kernel.unprivileged_userns_clone``, ``kernel.apparmor_restrict_unprivileged_userns``).

The process inherits only what is listed here, so the caller may hold a model or a GPU.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from harness.tools.sandbox.confined_process import SandboxedProcess, SandboxResult, started
from harness.tools.sandbox.jail.layers import NEEDED, UnsafeSandboxError, is_safe

TIMEOUT_S = 10.0
MEMORY_BYTES = 512 << 20


@dataclass(frozen=True, slots=True)
class Machine:
    """This machine's means of confining code."""

    layers: tuple[str, ...]
    """The layers that confined an empty program."""

    lacks: str
    """The reason why it has no namespaces, in one line; empty if it has them."""


def run_python(
    code: str,
    *,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int = MEMORY_BYTES,
    stdin: str = "",
    allow_unsafe: bool = False,
) -> SandboxResult:
    """Run ``code`` as a main module and wait for its end.

    ``timeout_s`` is wall-clock time from the start of the interpreter, and ``memory_bytes`` the address space of the
    process. Up to 64 KiB of output is kept, stdout and stderr together; more output ends the run. ``allow_unsafe`` runs
    the code even where the layers do not suffice.
    """
    try:
        require_safe(allow_unsafe)
    except UnsafeSandboxError as error:
        return SandboxResult("refused", "", str(error), 0.0, ())
    with sandboxed(code, timeout_s=timeout_s, memory_bytes=memory_bytes, stdin=stdin) as process:
        return process.result()


def active_layers() -> tuple[str, ...]:
    """Return the layers that confine code on this machine, found by running an empty program, once per process.

    Empty where there is no sandbox at all, which is the case on every system but Linux.
    """
    return _machine().layers if sys.platform == "linux" else ()


def require_safe(allow_unsafe: bool) -> None:
    """Raise ``UnsafeSandboxError`` unless this machine's layers suffice, or ``allow_unsafe``."""
    if sys.platform != "linux":
        raise UnsafeSandboxError(f"code written by a model runs on Linux only, and this is {sys.platform}")
    machine = _machine()
    if not allow_unsafe and not is_safe(machine.layers):
        missing = ", ".join(layer for layer in NEEDED if layer not in machine.layers)
        because = f" ({machine.lacks})" if machine.lacks else ""
        raise UnsafeSandboxError(
            f"this machine cannot confine code written by a model: it has no {missing}{because}; needed: Linux 5.12 or "
            "later on x86-64 or AArch64, which lets this user make namespaces "
            "(harness/tools/sandbox/python_sandbox.py names the settings); --allow-unsafe-code runs the code as it is"
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
    """Start a run that ends with the block; call ``require_safe`` first.

    ``pass_fds`` stay open in the run under the same numbers. ``leave_out`` names layers to leave out, so that tests can
    show the effect of an attack without them.
    """
    layers = _machine().layers
    with started(
        code,
        namespaces="namespaces" in layers and "namespaces" not in leave_out,
        required=() if leave_out else layers,
        timeout_s=timeout_s,
        memory_bytes=memory_bytes,
        stdin=stdin,
        pass_fds=pass_fds,
        leave_out=leave_out,
    ) as process:
        yield process


@cache
def _machine() -> Machine:
    reasons: list[str] = []
    for namespaces in (True, False):
        try:
            with started(
                "", namespaces=namespaces, required=(), timeout_s=TIMEOUT_S, memory_bytes=MEMORY_BYTES
            ) as process:
                result = process.result()
        except (OSError, subprocess.SubprocessError) as error:
            raise UnsafeSandboxError(f"the sandbox could not be started: {error}") from error
        if result.outcome == "ok":
            return Machine(result.layers, "; ".join(reasons))
        reasons.append(result.stderr or result.outcome)
    raise UnsafeSandboxError(f"an empty program could not be run in the sandbox: {'; '.join(reasons)}")
