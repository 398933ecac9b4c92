"""Facts about devices: their names, and whether one ran out of memory."""

from collections.abc import Iterable

import torch


def describe_devices(devices: Iterable[torch.device]) -> str:
    """Describe devices for records, each once: ``cpu``, or a GPU with its name."""
    return ", ".join(
        f"{device} {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)
        for device in dict.fromkeys(devices)
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out, on a GPU or elsewhere."""
    on_cpu = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)  # torch has no type for this one
    return on_cpu or isinstance(error, torch.OutOfMemoryError | MemoryError)
