import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from kvcomm_core.stopwatch import Stopwatch


def test_phases_add_up_and_lie_within_the_total() -> None:
    """Would catch a phase that keeps only its last entry, and a phase lost when its block raises."""
    stopwatch = Stopwatch([torch.device("cpu")])
    for _ in range(2):
        with stopwatch.phase("match"):
            time.sleep(0.01)
    with pytest.raises(KeyError), stopwatch.phase("blend"):
        _sleep_and_fail()
    phases = stopwatch.phases()
    assert phases["match"] >= 0.02
    assert phases["blend"] >= 0.01
    assert sum(phases.values()) <= stopwatch.seconds()
    assert set(phases) == {"match", "blend"}


def _sleep_and_fail() -> None:
    time.sleep(0.01)
    raise KeyError


@pytest.mark.gpu
def test_phases_on_a_gpu_count_queued_work() -> None:
    """Would catch measuring the launch of kernels instead of their run."""
    device = torch.device("cuda")
    matrix = torch.randn(4096, 4096, device=device)
    stopwatch = Stopwatch([device])
    with stopwatch.phase("prefill"):
        for _ in range(50):
            matrix = torch.nn.functional.normalize(matrix @ matrix)
    assert 0 < stopwatch.phases()["prefill"] <= stopwatch.seconds()
    assert stopwatch.phases()["prefill"] > 0.005


class FakeGPUs:
    """GPUs whose queued work ends at set times, in place of ``torch.cuda``."""

    def __init__(self) -> None:
        self.now_ms = {0: 0.0, 1: 0.0}
        self.current = -1
        self.waited: list[int] = []

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        gpus = self

        class Event:
            def __init__(self, *, enable_timing: bool) -> None:
                assert enable_timing

            def record(self, stream: int) -> None:
                assert stream == gpus.current
                self.at_ms = gpus.now_ms[stream]

            def elapsed_time(self, end: "Event") -> float:
                return end.at_ms - self.at_ms

        @contextmanager
        def device(gpu: torch.device) -> Iterator[None]:
            gpus.current = gpu.index
            yield
            gpus.current = -1

        fakes = {
            "Event": Event,
            "device": device,
            "current_stream": lambda gpu: gpu.index,
            "synchronize": lambda gpu: gpus.waited.append(gpu.index),
        }
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)


def test_work_on_every_gpu_of_a_model_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a stopwatch that waits for the GPU of the first layers alone, and a phase that ends with it."""
    gpus = FakeGPUs()
    gpus.install(monkeypatch)
    stopwatch = Stopwatch([torch.device("cuda", 0), torch.device("cuda", 1)])
    with stopwatch.phase("prefill"):
        gpus.now_ms = {0: 30.0, 1: 50.0}
    with stopwatch.phase("prefill"):
        gpus.now_ms = {0: 60.0, 1: 55.0}
    assert stopwatch.phases() == {"prefill": pytest.approx(0.080)}
    assert gpus.waited == [0, 1, 0, 1]


def test_a_clock_stands_still_with_the_stopwatch_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a pause that counts for the clock, and time between ``stop`` and ``go_on`` that counts at all."""
    now = [0.0]
    monkeypatch.setattr("kvcomm_core.stopwatch.time.perf_counter", lambda: now[0])
    clock = Stopwatch([torch.device("cpu")])
    now[0] = 1.0
    stopwatch = Stopwatch([torch.device("cpu")], clock)
    with stopwatch.paused():
        now[0] = 11.0
    now[0] = 12.0
    assert (clock.seconds(), stopwatch.seconds()) == (2.0, 1.0)
    clock.stop()
    now[0] = 112.0
    clock.go_on()
    now[0] = 113.0
    assert clock.seconds() == 3.0
