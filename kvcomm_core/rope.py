"""Moving cached keys between positions.

RoPE turns dimension pair i of a key at position p by the angle p * f_i. Moving a segment of keys by s positions is
therefore one rotation by s * f_i, the same for every token of the segment. A factor that YaRN multiplies into cos and
sin (``attention_scaling``) is already in the cached keys and stays there, because the rotation here has unit norm. The
model's own scaled cos/sin would apply it twice.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Rotation:
    """The rotation that moves keys by a fixed number of positions."""

    by: int
    cos: Tensor
    """``[D]``, the cosines of all pairs twice over, float32, on the device of the keys."""
    sin: Tensor
    """``[D/2]``, the sines of all pairs."""

    def apply(self, k_LHTD: Tensor, out: Tensor) -> Tensor:
        """Rotate keys ``[..., T, D]`` in float32 into ``out``, which may be a strided view but not overlap them."""
        if self.by == 0:
            return out.copy_(k_LHTD)
        half = k_LHTD.shape[-1] // 2
        first, second = k_LHTD[..., :half], k_LHTD[..., half:]
        # float32 cos and sin promote the products; only a final copy rounds to the dtype of ``out``.
        turned = torch.mul(k_LHTD, self.cos, out=out if out.dtype == torch.float32 else None)
        turned[..., :half].addcmul_(second, self.sin, value=-1)
        turned[..., half:].addcmul_(first, self.sin)
        return turned if turned is out else out.copy_(turned)


@dataclass(frozen=True, slots=True)
class Rope:
    """The rotary embedding of a model whose pairs are (i, i + D/2), with frequencies that do not depend on length."""

    inv_freq: tuple[float, ...]
    """f_i in radians per token, D/2 of them."""

    def rotation(self, by: int, device: torch.device) -> Rotation:
        """Return the rotation by ``by`` positions (negative: towards the start); angles are computed in float64."""
        angle = torch.tensor(self.inv_freq, dtype=torch.float64) * by
        cos, sin = angle.cos().to(device, torch.float32), angle.sin().to(device, torch.float32)
        return Rotation(by, torch.cat([cos, cos]), sin)

    def move(self, k_LHTD: Tensor, by: int, out: Tensor | None = None) -> Tensor:
        """Return keys ``[..., T, D]`` moved ``by`` positions, in ``out`` or in a new tensor of the same dtype."""
        return self.rotation(by, k_LHTD.device).apply(k_LHTD, torch.empty_like(k_LHTD) if out is None else out)
