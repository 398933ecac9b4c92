"""Small tensors of the host, brought to a device without waiting for it.

``torch.tensor(numbers, device="cuda")`` copies from ordinary memory, and the host then waits until the GPU has done all
that it was given before. From pinned memory the copy is queued like any other work.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(numbers: Sequence[int] | Sequence[float] | Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Return numbers as a tensor on a device: int64 for integers, float32 for others. On a GPU the copy is queued."""
    return send(torch.tensor(numbers), device)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the host on a device; on a GPU the copy is queued."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
