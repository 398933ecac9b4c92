import time

import pytest
import torch

from kvcomm_core.stopwatch import Stopwatch


def test_phases_add_up_and_lie_within_the_total() -> None:
    """Would catch a phase that keeps only its last entry, and a phase lost when its block raises."""
    stopwatch = Stopwatch(torch.device("cpu"))
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
    stopwatch = Stopwatch(device)
    with stopwatch.phase("prefill"):
        for _ in range(50):
            matrix = torch.nn.functional.normalize(matrix @ matrix)
    assert 0 < stopwatch.phases()["prefill"] <= stopwatch.seconds()
    assert stopwatch.phases()["prefill"] > 0.005
