"""Facts that the engine reads off a loaded network: how layers rotate keys, what they see, and what scales states."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kvcomm_core.models.families import FAMILIES
from kvcomm_core.models.model_config import ModelError
from kvcomm_core.rope import Rope

FULL, SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True, slots=True)
class Scales:
    """The factors that a model applies outside its layers."""

    embedding: float = 1.0
    """Factor of the embeddings before the first layer."""
    of_logits: float = 1.0
    logit_cap: float | None = None
    """c of c tanh(x / c); None if logits are not capped."""

    def logits(self, logits_BV: Tensor) -> Tensor:
        """Return the logits, scaled and capped as the model's own forward pass does."""
        if self.of_logits != 1.0:
            logits_BV = logits_BV * self.of_logits
        if self.logit_cap is not None:
            logits_BV = torch.tanh(logits_BV / self.logit_cap) * self.logit_cap
        return logits_BV


def attention_of(config: Any) -> str:
    """Return the implementation of attention that computes all of a model: PyTorch's fused one, or the plain one where
    that lacks sinks or a cap on scores."""
    capped = getattr(config, "attn_logit_softcapping", None) is not None
    return "eager" if FAMILIES[config.model_type].eager or capped else "sdpa"


def read_scales(config: Any) -> Scales:
    """Return the factors that the family of this configuration applies."""
    names = FAMILIES[config.model_type].scales

    def value(name: str, default: float | None) -> float | None:
        return getattr(config, name) if name in names else default

    return Scales(
        embedding=value("embedding_multiplier", 1.0) or 1.0,
        of_logits=(value("logit_scale", 1.0) or 1.0) / (value("logits_scaling", 1.0) or 1.0),
        logit_cap=value("final_logit_softcapping", None),
    )


def read_windows(config: Any) -> tuple[tuple[str, ...], int | None]:
    """Return the type of each layer, full or sliding attention, and the window of the sliding ones in tokens."""
    windows, layers = FAMILIES[config.model_type].windows, config.num_hidden_layers
    window = getattr(config, "sliding_window", None) if windows != "none" else None
    if window is None:
        return (FULL,) * layers, None
    types = (SLIDING,) * layers if windows == "one" else tuple(config.layer_types)
    return types, window if SLIDING in types else None


def read_rope(name: str, network: Any, layer_types: tuple[str, ...], head_dim: int) -> Rope:
    """Return how each layer moves keys. Raise ``ModelError`` if the network's frequencies are none we can use."""
    config, rotary = network.config, network.model.rotary_emb
    family = FAMILIES[config.model_type]
    by_type = {}
    for layer_type in dict.fromkeys(layer_types):
        inv_freq = (
            getattr(rotary, f"{layer_type}_inv_freq", None) if rotates_by_layer_type(network) else rotary.inv_freq
        )
        if inv_freq is None or inv_freq.dtype != torch.float32:
            found = None if inv_freq is None else inv_freq.dtype
            raise ModelError(f"{name}: rotary frequencies of {layer_type} are {found}; allowed: float32")
        rotated = 2 * len(inv_freq)
        if rotated > head_dim or (rotated < head_dim and not family.partial):
            raise ModelError(f"{name}: {rotated} dimensions rotate; allowed: the size of a head, {head_dim}")
        by_type[layer_type] = tuple(inv_freq.tolist())
    rows = [by_type[layer_type] for layer_type in layer_types]
    for layer, unrotated in enumerate(_unrotated(config, layer_types)):
        if unrotated:
            rows[layer] = (0.0,) * len(rows[layer])
    return Rope((rows[0],) if len(set(rows)) == 1 else tuple(rows), family.pairs)


def rotates_by_layer_type(network: Any) -> bool:
    """Return whether the rotary embedding has frequencies for each layer type."""
    return isinstance(getattr(network.model.rotary_emb, "rope_type", None), dict)


def _unrotated(config: Any, layer_types: tuple[str, ...]) -> list[bool]:
    how = FAMILIES[config.model_type].unrotated
    if how == "no_rope_layers":
        return [not rotates for rotates in config.no_rope_layers]
    if how == "full_beside_windows" and config.sliding_window is None:
        return [False] * len(layer_types)
    return [how != "none" and each == FULL for each in layer_types]
