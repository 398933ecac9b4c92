"""Energy used by GPUs, from the counters of NVIDIA's driver.

The counters are read through the module ``pynvml`` of the package nvidia-ml-py. Energy is unknown where it is not
installed, where part of the model is not on a GPU, and where the driver has no counter for the device (before Volta; a
MIG slice). A counter covers the whole GPU: its idle power and any other process's work on it count, too. It moves in
steps of up to some 100 ms, so the energy of a single short turn is a rough figure, and that of a trial a good one.
"""

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch


class EnergyMeter:
    """A meter of the joules that a model's devices use during the marked pieces of work."""

    def __init__(self, devices: Sequence[torch.device]) -> None:
        """``devices`` are those of the model, in any order and with repeats."""
        self._nvml, self._handles = _counters(list(dict.fromkeys(devices)))
        self._counted_j: float | None = 0.0

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what the devices use during the block. Their work must be finished when the block ends."""
        before_j = self.joules()
        yield
        after_j = self.joules()
        if self._counted_j is None or before_j is None or after_j is None or after_j < before_j:  # a counter began anew
            self._counted_j = None
        else:
            self._counted_j += after_j - before_j

    def taken(self) -> float | None:
        """Return the joules counted since the last call, and begin again at 0; None if a block's are unknown."""
        counted_j, self._counted_j = self._counted_j, 0.0
        return counted_j if self._handles else None

    def joules(self) -> float | None:
        """Return the joules that all devices together have used since their driver was loaded; None if unknown."""
        if not self._handles:
            return None
        try:
            millijoules = [int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) for handle in self._handles]
        except self._nvml.NVMLError:
            return None
        return sum(millijoules) / 1000


def _counters(devices: Sequence[torch.device]) -> tuple[Any, list[Any]]:
    """Return the NVML module and its handles of the devices; no handles if the energy of any device is unknown."""
    if not devices or any(device.type != "cuda" for device in devices):
        return None, []
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None, []
    try:
        nvml.nvmlInit()
        # By UUID: NVML numbers all GPUs of the machine, torch only those that the process may see.
        ids = [torch.cuda.get_device_properties(device).uuid for device in devices]
        return nvml, [nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}") for uuid in ids]
    except nvml.NVMLError:
        return nvml, []
