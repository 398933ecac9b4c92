"""Offsets from anchors: pure functions.

``l2_norm`` (paper Eq. 6 and 7): the offset of a placeholder, and of the text segment after it, is the weighted sum
of the anchors' offsets with w = softmax(-d / temperature) over the relative RMS distances d of ``criteria``. The
paper uses one w for the entropy test and for blending. We give blending a temperature of its own: weights sharp
enough for the entropy test are close to one-hot, and one anchor alone is a poor estimate.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def add_blend(
    base_LHTD: Tensor, offsets: Sequence[Tensor], weights: Sequence[float], out: Tensor | None = None
) -> Tensor:
    """``base + sum_a weights[a] * offsets[a][:, :, :T]``, accumulated in float32.

    Each offset is ``[L, H, >= T, D]``. The result is written to ``out`` if given (which may be a strided view), else
    returned in a new tensor of dtype float32.
    """
    tokens = base_LHTD.shape[2]
    in_place = out is not None and out.dtype == torch.float32
    total = out.copy_(base_LHTD) if out is not None and in_place else base_LHTD.to(torch.float32, copy=True)
    for offset, weight in zip(offsets, weights, strict=True):
        total.add_(offset[:, :, :tokens], alpha=weight)
    if out is None or in_place:
        return total
    return out.copy_(total)
