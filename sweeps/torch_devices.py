"""The devices that torch sees, looked at in a process of its own.

Importing torch takes a second or two, and a broken installation may take its process along.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kvcomm_core.config import one_line

PATIENCE_S = 60.0
"""Seconds after which the import is given up. On a machine that has just started it takes many."""

LOOK = """
import json, torch
found = []
for index in range(torch.cuda.device_count()):
    free, total = torch.cuda.mem_get_info(index)
    found.append((torch.cuda.get_device_name(index), free, total))
print(json.dumps({"threads": torch.get_num_threads(), "gpus": found}))
"""
"""The code of the process."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The facts that torch tells about itself and its devices."""

    threads: int | None = None
    """Threads of one operation on the CPU; None if unknown."""
    gpus: tuple[tuple[str, int, int], ...] = ()
    """Name, free bytes and all bytes of each GPU."""
    failure: str = ""
    """The reason why torch cannot be loaded, in one line; empty if it can."""


@contextmanager
def looking_at_devices() -> Iterator[Callable[[], Seen]]:
    """Start looking. The function that this yields waits for what was seen."""
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", LOOK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield lambda: _seen_by(process)
        finally:
            process.kill()


def _seen_by(process: "subprocess.Popen[str]") -> Seen:
    try:
        printed, errors = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        return Seen(failure=f"not loaded within {PATIENCE_S:g} s")
    if process.returncode:
        return Seen(failure=one_line(errors.strip().rpartition("\n")[2] or f"exit code {process.returncode}"))
    found = json.loads(printed.strip().rpartition("\n")[2])
    return Seen(found["threads"], tuple((name, free, total) for name, free, total in found["gpus"]))
