"""The base values of anchors, and how far a sample's are from them.

The squared distance of a sample v to an anchor a is ||v||^2 + ||a||^2 - 2 v.a. An anchor knows ||a||^2 of each of its
prefixes, so comparing reads its values once, for one product.

Values of a float32 model are held in float16, half the memory to keep. Its rounding is at random, so over the thousands
of elements of a sample little of it is left: on 39 GSM8K questions (SmolLM2-135M) distances moved by 2e-6 of themselves
at most, entropy ratios by 5e-5, blending weights by 3e-6, and none of 312 verdicts changed.

Where v and a are alike, the three numbers nearly cancel and leave the errors of their sums. Distances below ||v|| are
therefore measured again, from v - a. A GPU, which would have to wait for such a decision, always takes v - a.

On a CPU the sums go by blocks of heads. The sample's block stays in the cache while anchor after anchor is compared
with it, and no float32 sum is so long that its rounding counts; the sums of blocks are float64.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kvcomm_core.packed import to_host

Values = tuple[Tensor, ...]
"""Base values of a sample, ``[L, H, T, D]`` per layer group."""

_BLOCK = 3 << 18
"""Elements of a block of heads, 3 MB in float32: many enough to be worth a call for each anchor, few enough to stay in
the caches."""


@dataclass(frozen=True, slots=True)
class BaseValues:
    """The base values of an anchor, as pools hold them. Immutable."""

    groups: Values
    """``[L, H, T, D]`` per layer group; empty where the config compares none."""
    squares_T: Tensor
    """Sum of the squares of the first t + 1 tokens' values, float64, on the device of the first group."""

    @classmethod
    def none(cls) -> "BaseValues":
        """Return what an anchor holds that is never compared."""
        return cls((), torch.empty(0, dtype=torch.float64))

    @classmethod
    def of(cls, values: Values, *, compact: bool = True, on_host: bool = False) -> "BaseValues":
        """Return what an anchor holds of the base values of its sample. ``compact`` rounds float32 to float16, if that
        holds numbers so large; ``on_host`` moves them to host memory."""
        held = tuple(map(_in_16_bits, values)) if compact else values
        return cls.stored(to_host(held) if on_host else held)

    @classmethod
    def stored(cls, groups: Values) -> "BaseValues":
        """Return base values whose tensors are those of an earlier ``groups``, as from a file."""
        if not groups:
            return cls.none()
        squares_T = torch.zeros(groups[0].shape[2], dtype=torch.float64, device=groups[0].device)
        for v_LHTD in groups:
            for layers in _blocks(v_LHTD):
                squares_T += v_LHTD[layers].float().square().sum(dim=(0, 1, 3)).to(squares_T)
        return cls(groups, squares_T.cumsum(0))

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors held."""
        return self.squares_T.nbytes + sum(v.nbytes for v in self.groups)

    def square(self, tokens: int) -> Tensor:
        """Return ||a||^2 of the first tokens, a float64 scalar."""
        return self.squares_T[tokens - 1] if tokens else self.squares_T.new_zeros(())


def squared_distances(values: Values, anchors: Sequence[BaseValues]) -> tuple[Tensor, Tensor]:
    """Return ||v - a||^2 of a sample and each anchor, ``[A]``, and ||v||^2; both float64 on the CPU. Only the first T
    tokens of an anchor count. From a GPU, all numbers come in one transfer."""
    if any(v.device.type != "cpu" for v in values):
        numbers = torch.cat([_sums(values, anchors, _square_of_difference), _square(values)[None]]).cpu()
        return numbers[:-1], numbers[-1]
    tokens, square = values[0].shape[2], _square(values)
    of_anchors_A = torch.stack([anchor.square(tokens) for anchor in anchors])
    squares_A = square + of_anchors_A - 2 * _sums(values, anchors, torch.dot)
    near = (squares_A < square).nonzero().flatten()
    if len(near):
        nearest = [anchors[index] for index in near.tolist()]
        squares_A[near] = _sums(values, nearest, _square_of_difference)
    return squares_A, square


def cosines(values: Values, anchors: Sequence[BaseValues]) -> Tensor:
    """Return the cosine similarity of a sample and each anchor's first T tokens, ``[A]`` float64 on the CPU; 0 for an
    empty one."""
    tokens, products_A = values[0].shape[2], _sums(values, anchors, torch.dot)
    of_anchors_A = torch.stack([anchor.square(tokens).to(values[0].device) for anchor in anchors])
    norms_A = (_square(values) * of_anchors_A).sqrt()
    return torch.where(norms_A > 0, products_A / norms_A, 0.0).cpu()


def _square(values: Values) -> Tensor:
    """Return ||v||^2, a float64 scalar on the device of the first group."""
    first = values[0].device
    by_head = [torch.linalg.vector_norm(v_LHTD, dim=(2, 3), dtype=torch.float32) for v_LHTD in values]
    return torch.stack([norms_LH.double().square().sum().to(first) for norms_LH in by_head]).sum()


def _square_of_difference(v: Tensor, a: Tensor) -> Tensor:
    difference = v - a
    return torch.dot(difference, difference)


def _sums(values: Values, anchors: Sequence[BaseValues], measure: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return for each anchor the sum over blocks of ``measure``, ``[A]`` float64 on the device of the first group.
    ``measure`` gets a block of the sample and the same block of the anchor, each side by side in float32."""
    tokens, first = values[0].shape[2], values[0].device
    sums_A = torch.zeros(len(anchors), dtype=torch.float64, device=first)
    for group, v_LHTD in enumerate(values):
        sample = v_LHTD.flatten(0, 1)
        held = [anchor.groups[group][:, :, :tokens].flatten(0, 1) for anchor in anchors]
        room, parts = torch.empty(0, device=v_LHTD.device), []
        for heads in _blocks(sample):
            v = sample[heads].float().flatten()
            room.resize_(sample[heads].shape)
            in_a_row = room.flatten()
            for anchor in held:
                a = anchor[heads]
                in_place = a.dtype == torch.float32 and a.is_contiguous() and a.device == room.device
                if not in_place:
                    room.copy_(a, non_blocking=True)
                parts.append(measure(v, a.flatten() if in_place else in_a_row))
        sums_A += torch.stack(parts).double().view(-1, len(anchors)).sum(dim=0).to(first)
    return sums_A


def _blocks(x: Tensor) -> Iterator[slice]:
    """Yield the first dimension in blocks; all at once on a GPU, where a call costs more."""
    count = x.shape[0]
    step = count if x.is_cuda else max(1, _BLOCK // max(1, x[0].numel()))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _in_16_bits(x: Tensor) -> Tensor:
    """Return float32 numbers in float16, unless one is too large for it; others as they are."""
    if x.dtype != torch.float32:
        return x
    half = x.half()
    return half if bool(half.isfinite().all()) else x
