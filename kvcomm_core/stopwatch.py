"""Clocks: a stopwatch for a turn, and the phases inside it.

The stopwatch synchronises all devices when it starts and when it is read, so work still queued on a GPU counts. Phases
must not synchronise, or they would slow down what they measure. On GPUs they are pairs of CUDA events, resolved when
they are read; on a CPU they are perf_counter differences.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch


class Stopwatch:
    """Wall-clock seconds since the start, with the devices synchronised at both ends, and the phases in between."""

    def __init__(self, devices: Sequence[torch.device], clock: "Stopwatch | None" = None) -> None:
        """``devices`` are those of the model's layers. ``clock`` runs beside this stopwatch, and stands still with it
        while it is paused."""
        self._gpus = [device for device in devices if device.type == "cuda"]
        self._clock = clock
        self._events: list[tuple[str, list[torch.cuda.Event], list[torch.cuda.Event]]] = []
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
        """Add the time of the block to phase ``name``. A phase may be entered many times, never nested.

        Where layers lie on several GPUs, it takes as long as on the one that ends last: a GPU's time includes its wait
        for the layers before its own.
        """
        if not self._gpus:
            start = time.perf_counter()
            try:
                yield
            finally:
                self._phases[name] += time.perf_counter() - start
        else:
            begun = self._record()
            try:
                yield
            finally:
                self._events.append((name, begun, self._record()))

    def seconds(self) -> float:
        """Return the seconds since the start, after all queued work of the device has finished."""
        self._synchronise()
        return time.perf_counter() - self._start

    def phases(self) -> dict[str, float]:
        """Return the seconds of each phase that was entered."""
        self._synchronise()
        for name, begun, ended in self._events:
            self._phases[name] += max(begin.elapsed_time(end) for begin, end in zip(begun, ended, strict=True)) / 1000
        self._events.clear()
        return dict(self._phases)

    def _record(self) -> list[torch.cuda.Event]:
        """Mark this moment in the work of each GPU."""
        events = []
        for gpu in self._gpus:
            with torch.cuda.device(gpu):  # an event belongs to the GPU that is current when it is first recorded
                events.append(torch.cuda.Event(enable_timing=True))
                events[-1].record(torch.cuda.current_stream(gpu))
        return events

    def _synchronise(self) -> None:
        for gpu in self._gpus:
            torch.cuda.synchronize(gpu)
