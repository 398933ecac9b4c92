"""Moving cached keys between positions.

RoPE turns dimension pair i of a key at position p by the angle p * f_i, so moving a segment of keys by s positions
is one rotation by s * f_i, the same for every token of the segment. A factor that YaRN multiplies into cos and sin
(``attention_scaling``) is already in the cached keys and stays there, because the rotation here has unit norm;
using the model's own scaled cos/sin would apply it twice.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Rope:
    """The rotary embedding of a model whose pairs are (i, i + D/2), with frequencies that do not depend on length."""

    inv_freq: tuple[float, ...]
    """f_i in radians per token, D/2 of them."""

    def move(self, k_LHTD: Tensor, by: int, out: Tensor | None = None) -> Tensor:
        """Keys ``[..., T, D]`` moved ``by`` positions (negative: towards the start).

        Computed in float32, the angles in float64, and returned in ``out`` (which may be a strided view, but not
        overlap ``k_LHTD``) or in a new tensor of the same dtype.
        """
        if out is None:
            out = torch.empty_like(k_LHTD)
        if by == 0:
            return out.copy_(k_LHTD)
        angle = torch.tensor(self.inv_freq, dtype=torch.float64) * by
        cos = angle.cos().to(k_LHTD.device, torch.float32)
        sin = angle.sin().to(k_LHTD.device, torch.float32)
        half = k_LHTD.shape[-1] // 2
        first, second = k_LHTD[..., :half], k_LHTD[..., half:]
        # float32 cos and sin promote the products; only the final copy rounds to the dtype of ``out``.
        out[..., :half] = first * cos - second * sin
        out[..., half:] = second * cos + first * sin
        return out
