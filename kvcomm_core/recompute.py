"""Recompute some tokens of an assembled prompt through the model's real layers.

The tokens attend to everything before them in the buffer, recomputed or not, and their new KV replaces the old in
place. The decoder layers are transformers' own. They get a cache that scatters instead of appending, so no architecture
is implemented again.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from kvcomm_core.kv import KVBuffer
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import TokenIds

Select = Callable[[Tensor, Tensor], Tensor]
"""Maps the deviation ``[T]`` of each recomputed token and their positions ``[T]`` to the positions to continue with."""


class _ScatterCache:
    """The cache of one pass; new KV replaces the buffer's content at ``positions``."""

    def __init__(self, row: KVBuffer, tokens: int) -> None:
        self._layers = row.layers
        self._tokens = tokens
        self.positions_T = torch.empty(0, dtype=torch.long)
        self.deviation_T: Tensor | None = None
        """Squared L2 distance between the last layer's new keys and values and those they replaced."""
        self.measure = False

    def update(
        self, keys_BHTD: Tensor, values_BHTD: Tensor, layer: int, *_args: object, **_kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Replace the KV, and return all keys and values ``[1, H, tokens, D]``."""
        all_keys, all_values = (tensor[:, :, : self._tokens] for tensor in self._layers[layer])
        positions_T = self.positions_T.to(keys_BHTD.device)
        if self.measure:
            key_change = (keys_BHTD - all_keys[:, :, positions_T]).float()
            value_change = (values_BHTD - all_values[:, :, positions_T]).float()
            self.deviation_T = (key_change.square() + value_change.square()).sum(dim=(0, 1, 3))
        all_keys[:, :, positions_T] = keys_BHTD
        all_values[:, :, positions_T] = values_BHTD
        return all_keys, all_values


@torch.inference_mode()
def recompute(
    model: LoadedModel,
    token_ids: TokenIds,
    row: KVBuffer,
    positions_T: Tensor,
    *,
    select_at: int | None = None,
    select: Select | None = None,
) -> Tensor:
    """Recompute the tokens at ``positions_T`` (ascending) of the prompt ``token_ids`` whose KV fills ``row``.

    After layer ``select_at``, ``select`` chooses the tokens that continue through the later layers. Return the
    positions recomputed to the end.
    """
    decoder = model.network.model
    cache = _ScatterCache(row, len(token_ids))
    ids_T = torch.tensor(token_ids)[positions_T].to(model.device)
    hidden_BTE = decoder.embed_tokens(ids_T[None])
    for index, layer in enumerate(decoder.layers):
        cache.positions_T, cache.measure = positions_T, index == select_at
        device = hidden_BTE.device
        here_T = positions_T.to(device)
        mask_BHTC = (torch.arange(len(token_ids), device=device) <= here_T[:, None])[None, None]
        rotary = decoder.rotary_emb(hidden_BTE, position_ids=here_T[None])
        hidden_BTE = layer(
            hidden_BTE,
            attention_mask=mask_BHTC,
            position_ids=here_T[None],
            past_key_values=cache,
            use_cache=True,
            position_embeddings=rotary,
        )
        if index == select_at and select is not None:
            assert cache.deviation_T is not None  # noqa: S101 - measured in this layer
            kept_T = select(cache.deviation_T.cpu(), positions_T)
            hidden_BTE = hidden_BTE[:, torch.isin(positions_T, kept_T).to(hidden_BTE.device)]
            positions_T = kept_T
    return positions_T
