"""The attention that the last tokens of a prompt pay to the tokens before them, whose KV was reused."""

from typing import Any

import torch
from torch import Tensor, nn

from kvcomm_core.kv import KVBuffer
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.recompute import recompute
from kvcomm_core.template import TokenIds

LAYERS = 2
"""Number of last layers whose attention counts, as in InfoFlow's public code."""


class _Watch:
    """Collects the attention weights of one layer.

    The model's own attention returns no weights. After each call of a layer's attention, transformers' eager version
    repeats it for the same inputs and does return them. It writes the same KV again.
    """

    def __init__(self, attention: nn.Module) -> None:
        self.weights_HQC = torch.empty(0)
        self._handle = attention.register_forward_hook(self._repeat, with_kwargs=True)

    def end(self) -> None:
        self._handle.remove()

    def _repeat(self, attention: Any, args: tuple[Any, ...], inputs: dict[str, Any], _output: object) -> None:
        own = attention.config._attn_implementation
        visible = inputs["attention_mask"]
        mask = visible  # models that run with plain attention have such a mask already
        if visible.dtype == torch.bool:
            hidden = torch.finfo(torch.float32).min
            mask = torch.zeros(visible.shape, device=visible.device).masked_fill_(~visible, hidden)
        attention.config._attn_implementation = "eager"
        try:
            _, weights_BHQC = attention.forward(*args, **{**inputs, "attention_mask": mask})
        finally:
            attention.config._attn_implementation = own
        self.weights_HQC = weights_BHQC[0].float()


def attention_norms(model: LoadedModel, token_ids: TokenIds, row: KVBuffer, supplied: int) -> Tensor:
    """Return how strongly the tokens from ``supplied`` on attend to each one before, ``[supplied]`` float32.

    They run through the model over the KV that fills ``row``, and their own KV is written behind it. For each of the
    last ``LAYERS`` layers the weights are averaged over heads and their L2 norm is taken over the asking tokens; the
    result is the mean of the layers.
    """
    layers = list(model.network.model.layers)[-LAYERS:]
    watches = [_Watch(layer.self_attn) for layer in layers]
    try:
        recompute(model, token_ids, row, torch.arange(supplied, len(token_ids)))
    finally:
        for watch in watches:
            watch.end()
    norms = [watch.weights_HQC.mean(dim=0).norm(dim=0)[:supplied].cpu() for watch in watches]
    return torch.stack(norms).mean(dim=0)
