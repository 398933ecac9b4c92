"""Write a segment's KV into a prompt: base KV plus weighted offsets, keys rotated to their position.

    region = rotate(base + sum_i weight_i * offset_i)

Reuse spends its time here, reading memory once per offset. On a CPU the sum goes layer by layer, so that it stays in
the caches while offset after offset is added to it. A GPU takes all layers at once because launching a kernel
costs more there; where Triton is installed, one kernel does it all (``gpu/placing.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from kvcomm_core.estimators import Weight
from kvcomm_core.gpu import placing
from kvcomm_core.kv import KV, Part
from kvcomm_core.rope import Rope, Rotation, first_layers

_BLOCK_BYTES = 1 << 21
"""Bytes of float32 sums that stay in the caches, and are worth a call for each offset."""


class Readable(Protocol):
    """KV that is stored, or computed from what is stored, and read piece by piece."""

    def fetch(self) -> Self:
        """Return the same KV on the devices where it is needed."""

    def read(self, part: Part, group: int, layers: slice, tokens: int) -> Tensor:
        """Return some layers of a layer group and the first tokens, ``[layers, H, tokens, D]``, to be multiplied by
        ``scale``."""

    def scale(self, part: Part, group: int, layers: slice) -> Tensor | None:
        """Return the scales of some layers, which broadcast to what ``read`` returns; None for 1."""


@dataclass(frozen=True, slots=True)
class Term:
    """One offset of a sum and its weight."""

    offset: Readable
    weight: Weight


def place(base: KV, terms: Sequence[Term], region: KV, rope: Rope, by: int) -> None:
    """Write the first ``len(region)`` tokens of ``base + sum of terms`` to ``region``, keys moved ``by`` positions.

    Sums and rotations are in float32. ``region`` may be strided views into a prompt's buffer.
    """
    tokens = len(region)
    firsts = first_layers(region.keys)
    for group, (k_out_LHTD, v_out_LHTD) in enumerate(zip(region.keys, region.values, strict=True)):
        if not tokens:
            continue
        rotation = rope.rotation(by, k_out_LHTD.device, slice(firsts[group], firsts[group] + k_out_LHTD.shape[0]))
        by_kernel = k_out_LHTD.is_cuda and placing.is_right(k_out_LHTD.device, k_out_LHTD.dtype)
        if by_kernel and _placed(base, terms, group, rotation, region):
            continue
        blocks = _blocks(k_out_LHTD)
        scratch = torch.empty(k_out_LHTD[blocks[0]].shape, dtype=torch.float32, device=k_out_LHTD.device)
        for layers in blocks:
            v_out = v_out_LHTD[layers]
            room = scratch[: v_out.shape[0]]
            values_room = v_out if v_out.dtype == torch.float32 else room
            values = _sum("values", base.values[group], terms, group, layers, tokens, values_room)
            if values is not v_out:
                v_out.copy_(values)
            keys = _sum("keys", base.keys[group], terms, group, layers, tokens, room)
            rotation.of(layers).apply(keys, k_out_LHTD[layers])


def _placed(base: KV, terms: Sequence[Term], group: int, rotation: Rotation, region: KV) -> bool:
    """Place one layer group in one kernel for its keys and one for its values, and return whether that is possible."""
    of_keys = placing.KeyRotation(rotation.cos, rotation.sin, rotation.pairs == "neighbours") if rotation.by else None
    weights = [term.weight for term in terms]
    parts: tuple[tuple[Part, Tensor, Tensor, placing.KeyRotation | None], ...] = (
        ("keys", base.keys[group], region.keys[group], of_keys),
        ("values", base.values[group], region.values[group], None),
    )
    every, tokens = slice(0, region.keys[group].shape[0]), len(region)
    offsets = {part: [term.offset.read(part, group, every, tokens) for term in terms] for part, *_ in parts}
    if not all(placing.is_served(source, offsets[part], weights, out) for part, source, out, _ in parts):
        return False
    numbers = [weight for weight in weights if isinstance(weight, float)]
    for part, source, out, of_part in parts:
        scales = [term.offset.scale(part, group, every) for term in terms]
        placing.place_part(source, offsets[part], scales, numbers, out, of_part)
    return True


def lift(kv: KV, rope: Rope, position: int) -> KV:
    """Return a copy of KV whose first token is at ``position``, its keys moved to local positions 0..T-1. ``place``
    does the reverse."""
    return KV(rope.move_groups(kv.keys, -position), tuple(v_LHTD.clone() for v_LHTD in kv.values))


def _sum(
    part: Part, base_LHTD: Tensor, terms: Sequence[Term], group: int, layers: slice, tokens: int, room: Tensor
) -> Tensor:
    """Return base plus terms for a block of layers, summed in float32 in ``room``. Without terms, return the base
    itself."""
    base = base_LHTD[layers, :, :tokens]
    if not terms:
        return base
    # Two 16-bit tensors would be added in 16 bits, whatever the result's dtype. A float32 sum widens what it takes in.
    total = base if base.dtype == torch.float32 else room.copy_(base)
    for term in terms:
        offset, scale = term.offset.read(part, group, layers, tokens), term.offset.scale(part, group, layers)
        if isinstance(term.weight, float):
            # The scales of 8-bit numbers take the weight in, so that these are widened where they are added.
            if scale is None:
                total = torch.add(total, offset, alpha=term.weight, out=room)
            else:
                total = torch.addcmul(total, offset, scale * term.weight, out=room)
        else:
            weight = term.weight.of(part, group)
            weight = weight[:, :, :tokens] if weight.shape[2] > 1 else weight
            weight = weight[layers] if weight.shape[0] > 1 else weight
            total = torch.addcmul(total, offset, weight if scale is None else weight * scale, out=room)
    return total


def _blocks(out_LHTD: Tensor) -> list[slice]:
    layers = out_LHTD.shape[0]
    if out_LHTD.is_cuda:
        return [slice(0, layers)]
    step = max(1, _BLOCK_BYTES // (4 * out_LHTD[0].numel()))
    return [slice(layer, min(layer + step, layers)) for layer in range(0, layers, step)]
