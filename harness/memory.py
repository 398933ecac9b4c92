"""Memory in use and its peak: torch's allocations on a GPU, else the resident memory of the process."""

import ctypes
import gc
from collections.abc import Sequence
from pathlib import Path

import psutil
import torch


class MemoryMeter:
    """A memory meter that measures from its creation. Creating one resets the peaks of other meters in this process.

    Memory that an earlier trial of this process has left is given back first. Otherwise the allocator would keep it,
    and a small trial after a large one would begin, and peak, at what the large one took.
    """

    def __init__(self, devices: Sequence[torch.device] = ()) -> None:
        """``devices`` are the model's devices. Where none of them is a GPU, the meter measures the process."""
        self._gpus = [device for device in dict.fromkeys(devices) if device.type == "cuda"]
        self._process = psutil.Process()
        gc.collect()
        for gpu in self._gpus:
            torch.cuda.reset_peak_memory_stats(gpu)
        if not self._gpus:
            _give_back_free_memory()
        self._has_peak = bool(self._gpus) or _reset_peak_of_process()

    def now(self) -> int:
        """Return the bytes in use."""
        if self._gpus:
            return sum(torch.cuda.memory_allocated(gpu) for gpu in self._gpus)
        return int(self._process.memory_info().rss)

    def peak(self) -> int | None:
        """Return the most bytes in use since the meter's creation; None where the system does not report it."""
        if self._gpus:
            return sum(torch.cuda.max_memory_allocated(gpu) for gpu in self._gpus)
        return _peak_of_process() if self._has_peak else None


def default_device() -> torch.device:
    """Return the device on which a trial without a model runs."""
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def _give_back_free_memory() -> None:
    """Return to the system what ``free`` has kept for later, where the C library can (glibc: malloc_trim(3))."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _reset_peak_of_process() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux: proc_pid_clear_refs(5)
    except OSError:
        return False
    return True


def _peak_of_process() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    [peak] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return 1024 * int(peak)
