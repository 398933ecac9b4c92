"""Signals as exceptions: Ctrl-C and SIGTERM, which end a sweep in the same way, and the timer's alarm."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class TerminatedError(KeyboardInterrupt):
    """SIGTERM told the process to end."""


@contextmanager
def ended_by_signals() -> Iterator[Callable[[], None]]:
    """Make Ctrl-C raise ``KeyboardInterrupt`` and SIGTERM ``TerminatedError`` within the block.

    They are raised at once, and again when the yielded function is called: an exception is lost if the signal arrives
    while Python deletes an object. Signals that are ignored, as shells arrange for background processes, stay ignored.
    Outside the main thread, which alone gets signals, this has no effect.
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
    """A time limit has passed. It is not an ``Exception``, which a trial would take for a failure of its own."""


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise ``TimeLimitError`` in the main thread after ``seconds``, between two Python operations."""
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
