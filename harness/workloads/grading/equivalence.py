"""Comparison of two LaTeX expressions for mathematical equality, by the library math-verify in a process of its own.

SymPy can take hours or all memory over a single hostile answer (``10**10**10``), and math-verify's own time-outs are
signals, which work only on the main thread. So the comparison runs in a worker process (``equivalence_worker.py``) that
limits its own processor time and memory. The worker starts at the first comparison, which takes about a second, serves
all later ones, and is replaced if it dies. It ends with this process, because its input ends.
"""

import atexit
import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Literal, get_args

Verdict = Literal["equal", "different", "unreadable", "reference_unreadable", "gave_up"]
"""``unreadable``: the library cannot read the stated expression as mathematics. ``reference_unreadable``: it cannot
read the expected one. ``gave_up``: the comparison took too much time or memory."""

MAX_CHARACTERS = 1000
"""Longer expressions are ``unreadable``. No reference answer of MATH comes near this."""

CPU_LIMIT_S = 5.0
"""Processor time for one pair, in seconds. Ordinary pairs take milliseconds."""

_LOCK = threading.Lock()
_worker: "subprocess.Popen[str] | None" = None


def compare(expected: str, stated: str) -> Verdict:
    """Compare ``stated`` with ``expected``. Raise ``RuntimeError`` if the library cannot be loaded."""
    global _worker
    if len(stated) > MAX_CHARACTERS:
        return "unreadable"
    with _LOCK:
        if _worker is not None and not _takes(_worker, expected, stated):
            _close()
        if _worker is None:
            _worker = _start()
            _takes(_worker, expected, stated)
        assert _worker.stdout is not None  # noqa: S101 - a pipe
        reply = _worker.stdout.readline().strip()
        if not reply:  # the worker died over this pair
            _close()
    for verdict in get_args(Verdict):
        if reply == verdict:
            return verdict  # type: ignore[no-any-return]
    return "gave_up"


def _takes(worker: "subprocess.Popen[str]", expected: str, stated: str) -> bool:
    """Send the worker a pair. Return False if it has died since the last one."""
    assert worker.stdin is not None  # noqa: S101 - a pipe
    with suppress(BrokenPipeError):
        worker.stdin.write(json.dumps([expected, stated]) + "\n")
        worker.stdin.flush()
        return worker.poll() is None
    return False


def _start() -> "subprocess.Popen[str]":
    # SymPy's choices can depend on the order of sets. A process that reads a model's text does not need a cluster's
    # token.
    environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_TOKEN"}
    worker = subprocess.Popen(  # noqa: S603 - our own file
        # -P: the file's folder, which holds numbers.py, must not come before the standard library.
        [sys.executable, "-P", str(Path(__file__).with_name("equivalence_worker.py")), str(CPU_LIMIT_S)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        env={**environment, "PYTHONHASHSEED": "0"},
    )
    assert worker.stdout is not None  # noqa: S101 - a pipe
    greeting = worker.stdout.readline().strip()
    if greeting != "ready":
        raise RuntimeError(f"math-verify cannot be loaded: {greeting or 'its process died'}")
    return worker


@atexit.register
def _close() -> None:
    """End the worker, if there is one, and wait for it."""
    global _worker
    if _worker is not None:
        _worker.kill()
        _worker.communicate()
        _worker = None
