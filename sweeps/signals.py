"""Signals as exceptions: SIGTERM, so that a sweep that is told to end does so as after Ctrl-C, and the alarm clock."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class TerminatedError(KeyboardInterrupt):
    """The process was told to end by SIGTERM."""


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Within, SIGTERM raises ``TerminatedError``. Outside of the main thread, which alone gets signals, no effect."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    received = False

    def end(_number: int, _frame: FrameType | None) -> None:
        nonlocal received
        received = True
        raise TerminatedError

    earlier = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except KeyboardInterrupt:
        if received:  # Ray, interrupted while it waits, raises a plain KeyboardInterrupt in place of ours
            raise TerminatedError from None
        raise
    finally:
        signal.signal(signal.SIGTERM, earlier)


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
