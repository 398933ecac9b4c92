"""Recompute some tokens of an assembled prompt through the model's real layers.

The tokens attend to everything before them in the buffer, recomputed or not, and their new KV replaces the old in
place. The decoder layers are transformers' own. They get a cache that scatters instead of appending, so no architecture
is implemented again.

Attention takes an explicit mask, since the tokens may stand anywhere. It costs little: on the embedded model, 90 tokens
scattered over 450 take as long as 90 that are appended to 360, and all 450 take 5 % longer than dense prefill.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kvcomm_core.kv import KVBuffer, Part
from kvcomm_core.masks import masks_of
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import Span, TokenIds


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of the tokens continue beyond one layer: some always, then those whose new KV differs most from what it
    replaces."""

    layer: int
    """Index of the last layer that all tokens run through. Less than the model's number of layers."""
    part: Part
    """Whether keys or values are compared. Keys are compared at their positions."""
    count: int
    """Number of tokens that continue. 1 to the number of tokens, and at least as many as always do."""
    always_T: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    """Positions of the tokens that continue whatever their KV."""
    until: int | None = None
    """Index of the first layer that the tokens that continue do not run through; None if they run through all."""


@dataclass(frozen=True, slots=True)
class Recomputed:
    """The tokens that a pass has recomputed, and the share of the model that it ran."""

    positions_T: Tensor
    """Positions of the tokens that ran through all layers, or all that they were meant to, ascending, on the CPU."""
    computed_tokens: float
    """Tokens run, in whole-model equivalents: one that ran through k of L layers counts k / L."""


NOTHING = Recomputed(torch.empty(0, dtype=torch.long), 0.0)


class _ScatterCache:
    """The cache of one pass; new KV replaces the buffer's content at ``positions_T``."""

    def __init__(self, row: KVBuffer, tokens: int, selection: Selection | None) -> None:
        self._layers = row.layers
        self._tokens = tokens
        self._selection = selection
        self.positions_T = torch.empty(0, dtype=torch.long)
        self.deviation_T = torch.empty(0)
        """Squared L2 distance between the selection layer's new keys or values and those they replaced, float32."""

    def update(
        self, keys_BHTD: Tensor, values_BHTD: Tensor, layer: int, *_args: object, **_kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Replace the KV, and return all keys and values ``[1, H, tokens, D]``."""
        all_keys, all_values = (tensor[:, :, : self._tokens] for tensor in self._layers[layer])
        positions_T = self.positions_T.to(keys_BHTD.device)
        if self._selection is not None and layer == self._selection.layer:
            of_keys = self._selection.part == "keys"
            new, old = (keys_BHTD, all_keys) if of_keys else (values_BHTD, all_values)
            self.deviation_T = (new.float() - old[:, :, positions_T].float()).square().sum(dim=(0, 1, 3))
            always_T = torch.isin(positions_T, self._selection.always_T.to(positions_T.device))
            self.deviation_T[always_T] = torch.inf
        all_keys[:, :, positions_T] = keys_BHTD
        all_values[:, :, positions_T] = values_BHTD
        return all_keys, all_values


def positions_outside(spans: Iterable[Span], stop: int) -> Tensor:
    """Return the positions below ``stop`` that lie in none of the spans, ascending, on the CPU."""
    is_outside_T = torch.ones(stop, dtype=torch.bool)
    for span in spans:
        is_outside_T[span.start : span.stop] = False
    return is_outside_T.nonzero().flatten()


@torch.inference_mode()
def recompute(
    model: LoadedModel, token_ids: TokenIds, row: KVBuffer, positions_T: Tensor, selection: Selection | None = None
) -> Recomputed:
    """Recompute the tokens at ``positions_T``, ascending, of the prompt ``token_ids`` whose KV fills ``row``.

    With a ``selection``, only the tokens that it chooses run through the layers after it, or through those before
    ``until``. All others keep their new KV up to where they stopped, and the old KV from there on.
    """
    if not len(positions_T):
        return Recomputed(positions_T.long(), 0.0)
    decoder = model.network.model
    cache = _ScatterCache(row, len(token_ids), selection)
    ids_BT = torch.tensor(token_ids)[positions_T].to(model.device)[None]
    hidden_BTE = decoder.embed_tokens(ids_BT) * model.scales.embedding
    token_layers = 0
    inputs: dict[str, dict[str, Any]] = {}
    for index, layer in enumerate(decoder.layers):
        # Layers may lie on several devices. On one device, only a selection changes what they get.
        if not inputs or cache.positions_T.device != hidden_BTE.device:
            cache.positions_T = positions_T.to(hidden_BTE.device)
            inputs = _inputs(model, hidden_BTE, cache.positions_T, len(token_ids))
        hidden_BTE = layer(hidden_BTE, past_key_values=cache, use_cache=True, **inputs[model.layer_types[index]])
        token_layers += len(positions_T)
        if selection is not None and index == selection.layer:
            chosen_S = cache.deviation_T.topk(selection.count).indices.sort().values
            hidden_BTE = hidden_BTE[:, chosen_S]
            positions_T = positions_T[chosen_S.cpu()]
            inputs = {}
        if selection is not None and index + 1 == selection.until:
            break
    return Recomputed(positions_T, token_layers / len(decoder.layers))


def tokens_left(spans: Sequence[Span], recomputed_T: Tensor) -> int:
    """Return how many tokens of the spans were not recomputed."""
    return sum(len(s) - int(((recomputed_T >= s.start) & (recomputed_T < s.stop)).sum()) for s in spans)


def _inputs(model: LoadedModel, hidden_BTE: Tensor, positions_T: Tensor, tokens: int) -> dict[str, dict[str, Any]]:
    """Return what the layers of each type get beside the hidden states."""
    slots_C = torch.arange(tokens, device=hidden_BTE.device)
    allowed_BTC = (slots_C <= positions_T[:, None])[None]
    rotary, positions_BT = model.network.model.rotary_emb, positions_T[None]
    inputs = {}
    for layer_type, mask_B1TC in masks_of(model, allowed_BTC, positions_BT, slots_C[None]).items():
        kind = {"layer_type": layer_type} if model.rotates_by_layer_type else {}
        inputs[layer_type] = {
            "attention_mask": mask_B1TC,
            "position_ids": positions_BT,
            "position_embeddings": rotary(hidden_BTE, position_ids=positions_BT, **kind),
        }
    return inputs
