"""Memory in use and its peak, on a CPU."""

import mmap

import pytest
import torch

from harness.memory import MemoryMeter

MIB = 1024**2


def occupy(size: int) -> mmap.mmap:
    """Memory that is in use until it is closed. What ``malloc`` gives may have been in use already, by what is gone."""
    room = mmap.mmap(-1, size)
    for page in range(0, size, mmap.PAGESIZE):
        room[page] = 1
    return room


def test_a_peak_is_of_its_own_meter_and_outlives_what_made_it() -> None:
    """Would catch a peak since the process began, a peak that is only the present use, and kilobytes for bytes."""
    occupy(300 * MIB).close()
    meter = MemoryMeter([torch.device("cpu")])
    before = meter.now()
    if meter.peak() is None:
        pytest.skip("this system has no peak to reset")
    assert meter.peak() == pytest.approx(before, abs=100 * MIB)
    room = occupy(200 * MIB)
    assert meter.now() - before == pytest.approx(200 * MIB, abs=50 * MIB)
    room.close()
    assert meter.now() - before < 100 * MIB
    assert meter.peak() - before == pytest.approx(200 * MIB, abs=50 * MIB)


def test_a_peak_is_not_inherited_from_what_the_allocator_keeps() -> None:
    """Would catch a small trial that begins, and peaks, at the memory of a large one before it. ``free`` keeps blocks
    below one that is in use."""
    before = MemoryMeter([torch.device("cpu")]).now()
    blocks = [bytearray(100_000) for _ in range(2000)]
    above = bytearray(100_000)
    used = MemoryMeter([torch.device("cpu")]).now()
    assert used - before > 150 * MIB
    del blocks
    meter = MemoryMeter([torch.device("cpu")])
    assert meter.now() - before < 50 * MIB
    assert meter.peak() is None or meter.peak() - before < 50 * MIB  # type: ignore[operator]
    assert above is not None


@pytest.mark.gpu
def test_on_a_gpu_it_is_what_torch_allocated() -> None:
    """Would catch the process's memory shown for the device's."""
    device = torch.device("cuda:0")
    meter = MemoryMeter([device, device])
    before = meter.now()
    room = torch.zeros(100 * MIB, dtype=torch.uint8, device=device)
    assert meter.now() - before == 100 * MIB
    del room
    assert meter.now() == before
    assert meter.peak() - before == 100 * MIB
