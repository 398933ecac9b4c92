"""Random KV of a model whose layers are split as if on two devices: two layer groups, of 2 and 1 layers."""

import torch

from kvcomm_core.kv import KV


def make_kv(tokens: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> KV:
    """Make KV with one head of size 4. Equal seeds give equal KV."""
    generator = torch.Generator().manual_seed(seed)

    def tensors() -> tuple[torch.Tensor, ...]:
        return tuple(torch.randn(layers, 1, tokens, 4, generator=generator).to(dtype) for layers in (2, 1))

    return KV(tensors(), tensors())
