"""The process in which ``equivalence.py`` compares expressions. It runs as a file and imports nothing of this project.

It reads one JSON pair [expected, stated] per line and answers each with one verdict. The limit is on processor time,
not wall-clock time, so that a busy machine changes no verdict; beyond the limit the kernel ends the process.
"""

import json
import logging
import os
import re
import resource
import signal
import sys

MEMORY_LIMIT_BYTES = 4 << 30
"""Limit of address space, in bytes."""

_REPEATING = re.compile(r"(\d+)\.(\d*)\\overline\s*\{(\d+)\}")


def main(cpu_limit_s: float) -> None:
    """Answer pairs until the input ends, each within ``cpu_limit_s`` seconds of processor time."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    sys.stdout = sys.stderr  # a library's output must not look like a reply
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    # The parent may have blocked or ignored the signal. By default it ends the process, even inside C code.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF])
    logging.disable()
    try:
        import math_verify  # noqa: F401 - so that it is loaded before the clock runs
    except ImportError as error:
        print(error, file=replies, flush=True)
        return
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        expected, stated = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, cpu_limit_s)
        try:
            verdict = _compare(expected, stated)
        except Exception:  # noqa: BLE001 - whatever a library makes of a hostile answer
            verdict = "gave_up"
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(verdict, file=replies, flush=True)


def _compare(expected: str, stated: str) -> str:
    from math_verify import verify

    gold, target = _parse(expected), _parse(stated)
    if not gold:
        return "reference_unreadable"
    if not target:
        return "unreadable"
    # Do not use the library's own time-out; the module's docstring says why.
    return "equal" if verify(gold, target, timeout_seconds=None) else "different"


def _parse(latex: str) -> list[object]:
    from math_verify import LatexExtractionConfig, parse

    text = _REPEATING.sub(_fraction, " ".join(latex.split()))
    parsed: list[object] = parse(
        f"${text}$", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None
    )
    return parsed


def _fraction(repeating: re.Match[str]) -> str:
    """Return a repeating decimal, which the library cannot read, as a fraction: 1.2(3) is (123 - 12) / 90."""
    whole, once, again = repeating.groups()
    numerator = int(whole + once + again) - int(whole + once)
    return rf"\frac{{{numerator}}}{{{(10 ** len(again) - 1) * 10 ** len(once)}}}"


if __name__ == "__main__":
    main(float(sys.argv[1]))
