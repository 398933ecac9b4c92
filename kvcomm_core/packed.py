"""KV as anchors store it: in the model's dtype or in int8, with the layers or in host memory.

Offsets are read once per blend and never written, so they may be stored compactly and far away. In int8 a tensor ``[L,
H, T, D]`` has one scale per layer, head and channel, ``max_t |x| / 127``; the largest error of an element is half a
scale. Host memory is pinned where there is a GPU, so that :meth:`PackedKV.fetch` can copy it back while the engine does
something else.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from kvcomm_core.config import Placement, Storage
from kvcomm_core.kv import KV, Part

_LARGEST = 127
_SMALLEST = torch.finfo(torch.float32).tiny


@dataclass(frozen=True, slots=True)
class PackedKV:
    """The stored KV of T tokens."""

    keys: tuple[Tensor, ...]
    """Per layer group ``[L, H, T, D]``, of the model's dtype or int8."""
    values: tuple[Tensor, ...]
    key_scales: tuple[Tensor, ...] | None
    """Per layer group ``[L, H, 1, D]`` float32; None unless int8."""
    value_scales: tuple[Tensor, ...] | None
    devices: tuple[torch.device, ...]
    """The device on which each layer group is needed."""

    def __len__(self) -> int:
        return self.keys[0].shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors held, scales included."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def elements(self) -> int:
        """Numbers stored, without the scales."""
        return sum(tensor.numel() for tensor in (*self.keys, *self.values))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors held, scales last."""
        return (*self.keys, *self.values, *(self.key_scales or ()), *(self.value_scales or ()))

    def fetch(self) -> "PackedKV":
        """Return the same KV on the devices where it is needed. From pinned memory the copy continues after this
        returns."""
        if all(tensor.device == device for tensor, device in zip(self.keys, self.devices, strict=True)):
            return self

        def move(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return tuple(t.to(device, non_blocking=True) for t, device in zip(tensors, self.devices, strict=True))

        return PackedKV(
            move(self.keys),
            move(self.values),
            None if self.key_scales is None else move(self.key_scales),
            None if self.value_scales is None else move(self.value_scales),
            self.devices,
        )

    def read(self, part: Part, group: int, layers: slice, tokens: int) -> Tensor:
        """Return some layers of a group and the first ``tokens`` tokens, ``[layers, H, tokens, D]``, as they are
        stored: to be multiplied by ``scale``."""
        return (self.keys if part == "keys" else self.values)[group][layers, :, :tokens]

    def scale(self, part: Part, group: int, layers: slice) -> Tensor | None:
        """Return the scales of some layers of a group, ``[layers, H, 1, D]``; None where numbers are stored as they
        are."""
        scales = self.key_scales if part == "keys" else self.value_scales
        return None if scales is None else scales[group][layers]


def pack(kv: KV, storage: Storage = "model", placement: Placement = "device") -> PackedKV:
    """Pack ``kv`` for storage. With ``model`` and ``device`` the result holds the tensors themselves, not copies."""
    devices = tuple(tensor.device for tensor in kv.keys)
    keys, values, key_scales, value_scales = kv.keys, kv.values, None, None
    if storage == "int8":
        keys, key_scales = _quantise(kv.keys)
        values, value_scales = _quantise(kv.values)
    if placement == "host":
        keys, values = to_host(keys), to_host(values)
        key_scales = key_scales and to_host(key_scales)
        value_scales = value_scales and to_host(value_scales)
    return PackedKV(keys, values, key_scales, value_scales, devices)


def _quantise(tensors: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    quantised, scales = [], []
    for x_LHTD in tensors:
        x_LHTD = x_LHTD.float()
        # Padding with a token of zeros gives an empty tensor a scale too, and the minimum keeps every scale above 0.
        padded_LHTD = torch.nn.functional.pad(x_LHTD, (0, 0, 0, 1))
        scale_LH1D = (padded_LHTD.abs().amax(dim=2, keepdim=True) / _LARGEST).clamp_min(_SMALLEST)
        quantised.append((x_LHTD / scale_LH1D).round().to(torch.int8))
        scales.append(scale_LH1D)
    return tuple(quantised), tuple(scales)


def to_host(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the tensors in host memory, pinned if they come from a GPU; tensors that are there already stay as they
    are."""
    return tuple(t.cpu().pin_memory() if t.device.type == "cuda" else t.cpu() for t in tensors)
