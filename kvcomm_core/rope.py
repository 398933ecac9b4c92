"""Moving cached keys between positions.

RoPE turns dimension pair i of a key at position p by the angle p * f_i. Moving a segment of keys by s positions is
therefore one rotation by s * f_i, the same for every token of the segment. A factor that YaRN multiplies into cos and
sin (``attention_scaling``) is already in the cached keys and stays there, because the rotation here has unit norm. The
model's own scaled cos/sin would apply it twice.

Models differ in three ways. Pairs are (i, i + R/2) or (2i, 2i + 1). Only the first R of the head's D dimensions may
rotate. Layers may have frequencies of their own, 0 where keys are not rotated at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kvcomm_core.config import Pairs
from kvcomm_core.devices.transfers import send


@dataclass(frozen=True, slots=True)
class Rotation:
    """The rotation that moves keys by a fixed number of positions."""

    by: int
    cos: Tensor
    """``[R]``, each pair's cosine at both of its dimensions, float32, on the device of the keys; ``[L, 1, 1, R]`` if
    the layers differ."""
    sin: Tensor
    """``[R/2]`` or ``[L, 1, 1, R/2]``, the sines of all pairs."""
    pairs: Pairs = "halves"

    def of(self, layers: slice) -> "Rotation":
        """Return the rotation of some layers."""
        if self.cos.dim() == 1:
            return self
        return Rotation(self.by, self.cos[layers], self.sin[layers], self.pairs)

    def apply(self, k_LHTD: Tensor, out: Tensor) -> Tensor:
        """Rotate keys ``[L, H, T, D]`` in float32 into ``out``, which may be a strided view but not overlap them."""
        if self.by == 0:
            return out.copy_(k_LHTD)
        rotated = self.cos.shape[-1]
        if rotated < k_LHTD.shape[-1]:
            out[..., rotated:].copy_(k_LHTD[..., rotated:])
            self._turn(k_LHTD[..., :rotated], out[..., :rotated])
        else:
            self._turn(k_LHTD, out)
        return out

    def _turn(self, k_LHTR: Tensor, out: Tensor) -> None:
        # float32 cos and sin promote the products; only a final copy rounds to the dtype of ``out``.
        turned = torch.mul(k_LHTR, self.cos, out=out if out.dtype == torch.float32 else None)
        first, second = self._split(k_LHTR)
        turned_first, turned_second = self._split(turned)
        turned_first.addcmul_(second, self.sin, value=-1)
        turned_second.addcmul_(first, self.sin)
        if turned is not out:
            out.copy_(turned)

    def _split(self, x_LHTR: Tensor) -> tuple[Tensor, Tensor]:
        """Return views of the first and of the second dimension of all pairs."""
        if self.pairs == "neighbours":
            return x_LHTR[..., 0::2], x_LHTR[..., 1::2]
        half = x_LHTR.shape[-1] // 2
        return x_LHTR[..., :half], x_LHTR[..., half:]


@dataclass(frozen=True, slots=True)
class Rope:
    """The rotary embedding of a model, with frequencies that do not depend on length."""

    inv_freq: tuple[tuple[float, ...], ...]
    """f_i in radians per token, R/2 of them: one tuple for all layers, or one per layer."""
    pairs: Pairs = "halves"

    def rotation(self, by: int, device: torch.device, layers: slice = slice(None)) -> Rotation:
        """Return the rotation of some layers by ``by`` positions (negative: towards the start). Angles are computed in
        float64."""
        if len(self.inv_freq) == 1:
            angle = torch.tensor(self.inv_freq[0], dtype=torch.float64) * by
        else:
            angle = torch.tensor(self.inv_freq[layers], dtype=torch.float64)[:, None, None] * by
        cos, sin = angle.cos().float(), angle.sin().float()
        twice = cos.repeat_interleave(2, dim=-1) if self.pairs == "neighbours" else torch.cat([cos, cos], dim=-1)
        return Rotation(by, send(twice, device), send(sin, device), self.pairs)

    def move(self, k_LHTD: Tensor, by: int, out: Tensor | None = None, first_layer: int = 0) -> Tensor:
        """Return keys ``[L, H, T, D]`` of the layers from ``first_layer`` on, moved ``by`` positions, in ``out`` or in
        a new tensor of the same dtype."""
        layers = slice(first_layer, first_layer + k_LHTD.shape[0])
        rotation = self.rotation(by, k_LHTD.device, layers)
        return rotation.apply(k_LHTD, torch.empty_like(k_LHTD) if out is None else out)

    def move_groups(self, keys: Sequence[Tensor], by: int) -> tuple[Tensor, ...]:
        """Return the keys of all layer groups, ``[L, H, T, D]`` each, moved ``by`` positions, in new tensors."""
        return tuple(
            self.move(k_LHTD, by, first_layer=first) for first, k_LHTD in zip(first_layers(keys), keys, strict=True)
        )


def first_layers(groups: Sequence[Tensor]) -> list[int]:
    """Return the index of the first layer of each layer group, given the groups' ``[L, ...]`` tensors."""
    return [sum(group.shape[0] for group in groups[:index]) for index in range(len(groups))]
