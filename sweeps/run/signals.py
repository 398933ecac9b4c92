"""Signals as exceptions: Ctrl-C, SIGTERM, after which a sweep ends in the same way, and the alarm clock."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class TerminatedError(KeyboardInterrupt):
    """The process was told to end by SIGTERM."""


@contextmanager
def ended_by_signals() -> Iterator[Callable[[], None]]:
    """Within, Ctrl-C raises ``KeyboardInterrupt`` and SIGTERM ``TerminatedError``, at once and again when what this
    yields is called: one that arrives while Python deletes an object is lost as an exception.

    A signal that is ignored, as a shell has it for what runs in its background, stays so. Outside of the main thread,
    which alone gets signals, no effect.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return

    received: list[type[KeyboardInterrupt]] = []

    def end(number: int, _frame: FrameType | None) -> None:
        received.append(TerminatedError if number == signal.SIGTERM else KeyboardInterrupt)
        check()

    def check() -> None:
        if received:
            raise received[-1]

    heard = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    earlier = {number: signal.signal(number, end) for number in heard}
    try:
        yield check
    except KeyboardInterrupt:
        check()  # Ray, interrupted while it waits, raises a plain KeyboardInterrupt in place of ours
        raise
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


class TimeLimitError(BaseException):
    """A time limit was passed. Not an ``Exception``: a trial takes those for failures of its own."""


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Within, ``TimeLimitError`` is raised after so many seconds, in the main thread, between two Python operations."""
    if seconds is None:
        yield
        return

    def end(_number: int, _frame: FrameType | None) -> None:
        raise TimeLimitError

    earlier = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)
