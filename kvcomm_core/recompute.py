"""Recompute some tokens of an assembled prompt through the model's real layers, and run those after it in one pass.

The tokens attend to everything before them in the buffer, recomputed or not, and their new KV replaces the old in
place. The decoder layers are transformers' own. They get a cache that scatters instead of appending, so no architecture
is implemented again.

One pass for both matters because a pass over a few tokens costs the reading of all weights. It changes no value: in
each layer, the tokens at the end attend to the KV that this layer has just computed for the others.

Attention takes an explicit mask, since the tokens may stand anywhere. It costs little: on the embedded model, 90 tokens
scattered over 450 take as long as 90 that are appended to 360, and all 450 take 5 % longer than dense prefill.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kvcomm_core.decode import advance
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


@dataclass(frozen=True, slots=True)
class Pending:
    """Tokens, among those that a method supplies, that are recomputed when the tokens after them run."""

    positions_T: Tensor
    """Their positions, ascending, on the CPU."""
    selection: Selection | None = None
    """Which of these tokens continue beyond one layer; None for all."""
    before: Recomputed = NOTHING
    """The tokens that ran already, to choose these."""


class _ScatterCache:
    """The cache of one pass; new KV replaces the buffer's content at ``positions_T``."""

    def __init__(self, row: KVBuffer, tokens: int, selection: Selection | None, rest: int) -> None:
        self._layers = row.layers
        self._tokens = tokens
        self._selection = selection
        self._rest = rest
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
            always_T[len(always_T) - self._rest :] = True
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
    return _run(model, token_ids, row, positions_T, selection, rest=0)[1]


@torch.inference_mode()
def recompute_and_advance(
    model: LoadedModel, token_ids: TokenIds, row: KVBuffer, supplied: int, pending: Pending | None
) -> tuple[Tensor, Recomputed]:
    """Recompute what is ``pending`` of the first ``supplied`` tokens, whose KV fills ``row``, and run the rest of
    ``token_ids`` through all layers. All of it is one pass.

    Return the decoder's last hidden state of the last token, ``[1, hidden size]``, which means nothing if there is no
    rest, and what was recomputed, without the rest.
    """
    if pending is None:
        row.length = supplied
        return advance(model, [token_ids[supplied:]], row), NOTHING
    hidden_BTE, done = _run(
        model, token_ids, row, pending.positions_T, pending.selection, rest=len(token_ids) - supplied
    )
    hidden_BE: Tensor = model.network.model.norm(hidden_BTE[:, -1:])[0]
    positions_T = torch.cat([pending.before.positions_T, done.positions_T]).unique()
    return hidden_BE, Recomputed(positions_T, pending.before.computed_tokens + done.computed_tokens)


def _run(
    model: LoadedModel, token_ids: TokenIds, row: KVBuffer, positions_T: Tensor, selection: Selection | None, rest: int
) -> tuple[Tensor, Recomputed]:
    """Run the tokens at ``positions_T``, and the last ``rest`` of the prompt, which no selection concerns. Return the
    hidden states after the last layer, ``[1, T, hidden size]``, and what ran without the rest."""
    decoder, tokens = model.network.model, len(token_ids)
    cache = _ScatterCache(row, tokens, selection, rest)
    now_T = torch.cat([positions_T, torch.arange(tokens - rest, tokens)]).long()
    ids_BT = torch.tensor(token_ids)[now_T].to(model.device)[None]
    hidden_BTE = decoder.embed_tokens(ids_BT) * model.scales.embedding
    token_layers = 0
    inputs: dict[str, dict[str, Any]] = {}
    for index, layer in enumerate(decoder.layers if len(now_T) else []):
        # Layers may lie on several devices. On one device, only a selection changes what they get.
        if not inputs or cache.positions_T.device != hidden_BTE.device:
            cache.positions_T = now_T.to(hidden_BTE.device)
            inputs = _inputs(model, hidden_BTE, cache.positions_T, tokens)
        hidden_BTE = layer(hidden_BTE, past_key_values=cache, use_cache=True, **inputs[model.layer_types[index]])
        token_layers += len(now_T) - rest
        if selection is not None and index == selection.layer:
            chosen_S = cache.deviation_T.topk(selection.count + rest).indices.sort().values
            hidden_BTE, now_T, inputs = hidden_BTE[:, chosen_S], now_T[chosen_S.cpu()], {}
            positions_T = now_T[: selection.count]
        if selection is not None and index + 1 == selection.until:
            if not rest:
                break
            hidden_BTE, now_T, inputs = hidden_BTE[:, -rest:], now_T[-rest:], {}
    return hidden_BTE, Recomputed(positions_T, token_layers / len(decoder.layers))


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
