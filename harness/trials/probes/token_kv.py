"""Keys and values of single tokens, each alone after the same prefix."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kvcomm_core.decode import advance
from kvcomm_core.kv import KVBuffer
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import TokenIds

_ROWS_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class TokenKV:
    """KV of N tokens in one context, float32 on the CPU; E is heads times head size."""

    keys_LNE: Tensor
    """Keys moved to position 0."""
    placed_keys_LNE: Tensor
    """Keys as they are cached, at the position after the prefix."""
    values_LNE: Tensor


@torch.inference_mode()
def token_kv(model: LoadedModel, prefix: TokenIds, token_ids: Sequence[int]) -> TokenKV:
    """Run each token alone after ``prefix``, which is prefilled once and may be empty."""
    start = len(prefix)
    model.require_context(start + 1)
    whole = KVBuffer(model.layout, rows=1, capacity=start)
    if prefix:
        advance(model, [prefix], whole)
    rows = min(_ROWS_AT_ONCE, len(token_ids))
    buffer = KVBuffer(model.layout, rows=rows, capacity=start + 1)
    for row in range(rows):
        whole.view(0, start).copy_to(buffer.view(0, start, row))
    keys: list[Tensor] = []
    placed: list[Tensor] = []
    values: list[Tensor] = []
    for first in range(0, len(token_ids), rows):
        ids = token_ids[first : first + rows]
        buffer.length = start
        # Extra rows in the last batch repeat its last token and are not read.
        advance(model, [(token,) for token in (*ids, *[ids[-1]] * (rows - len(ids)))], buffer)
        for row in range(len(ids)):
            kv = buffer.view(start, start + 1, row)
            placed.append(_by_layer(kv.keys))
            # Subtract in float32, or rounding to half precision would look like an offset.
            keys.append(_by_layer(model.rope.move_groups([k_LHTD.float() for k_LHTD in kv.keys], -start)))
            values.append(_by_layer(kv.values))
    return TokenKV(torch.stack(keys, dim=1), torch.stack(placed, dim=1), torch.stack(values, dim=1))


def _by_layer(groups: tuple[Tensor, ...]) -> Tensor:
    """Return ``[L, H, 1, D]`` of each layer group as one ``[L, E]`` on the CPU."""
    return torch.cat([x_LHTD.float().cpu().flatten(1) for x_LHTD in groups])
