"""Clocks: a stopwatch for a turn, and the phases inside it.

The stopwatch synchronises the device when it starts and when it is read, so work still queued on a GPU counts. Phases
must not synchronise, or they would slow down what they measure. On a GPU they are pairs of CUDA events, resolved when
they are read; on a CPU they are perf_counter differences.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Wall-clock seconds since the start, with the device synchronised at both ends, and the phases in between."""

    def __init__(self, device: torch.device, clock: "Stopwatch | None" = None) -> None:
        """``clock`` runs beside this stopwatch, and stands still with it while it is paused."""
        self._cuda = device if device.type == "cuda" else None
        self._clock = clock
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self._phases: defaultdict[str, float] = defaultdict(float)
        self._synchronise()
        self._start = self._stopped = time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time of the block out, for what no method could do, such as to look at the truth. Enter it outside
        of any phase."""
        self.stop()
        try:
            yield
        finally:
            self.go_on()

    def stop(self) -> None:
        """Stand still until :meth:`go_on`."""
        self._synchronise()
        self._stopped = time.perf_counter()

    def go_on(self) -> None:
        """Run again, without the time since :meth:`stop`."""
        self._synchronise()
        seconds = time.perf_counter() - self._stopped
        self._start += seconds
        if self._clock is not None:
            self._clock._start += seconds

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of the block to phase ``name``. A phase may be entered many times, never nested."""
        if self._cuda is None:
            start = time.perf_counter()
            try:
                yield
            finally:
                self._phases[name] += time.perf_counter() - start
        else:
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            stream = torch.cuda.current_stream(self._cuda)
            begin.record(stream)
            try:
                yield
            finally:
                end.record(stream)
                self._events.append((name, begin, end))

    def seconds(self) -> float:
        """Return the seconds since the start, after all queued work of the device has finished."""
        self._synchronise()
        return time.perf_counter() - self._start

    def phases(self) -> dict[str, float]:
        """Return the seconds of each phase that was entered."""
        self._synchronise()
        for name, begin, end in self._events:
            self._phases[name] += begin.elapsed_time(end) / 1000
        self._events.clear()
        return dict(self._phases)

    def _synchronise(self) -> None:
        if self._cuda is not None:
            torch.cuda.synchronize(self._cuda)
