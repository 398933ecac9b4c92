"""CacheBlend after its authors' code, layer by layer and token by token, as the reference for the engine.

Like that code, it stores keys before their rotation and rotates them to the prompt's positions, runs every token
through the first layers, and narrows the queries inside layer 1. It shares only the weights of single modules with the
engine. It departs from the authors where the engine says that it does and the result differs: each token attends to
what stands before it, and nothing but the suffix runs if no other token is chosen.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import Template

Ids = tuple[int, ...]
Layers = list[tuple[Tensor, Tensor]]
"""Keys and values of each layer, ``[T, H, D]``."""


@dataclass
class Blended:
    logits_V: Tensor
    """Of the token after the prompt."""
    kv: Layers
    """Keys at their positions."""
    chosen: list[int]
    """Positions that ran through all layers, the suffix included."""


@torch.inference_mode()
def blend(
    model: LoadedModel, ids: Ids, old: Layers, *, suffix: int, ratio: float, part: str, until: int | None = None
) -> Blended:
    """Run the prompt ``ids`` over ``old``, its pieces' KV with keys before rotation. Its last ``suffix`` tokens are
    never reused. From layer ``until`` on, nothing else runs."""
    decoder = model.network.model
    others, kv = len(ids) - suffix, []
    chosen = list(range(len(ids)))
    count = int(others * ratio)
    if count == 0:
        chosen = list(range(others, len(ids)))
    hidden_TE = decoder.embed_tokens(torch.tensor([ids[position] for position in chosen]))
    for index, layer in enumerate(decoder.layers):
        if index == until:
            hidden_TE, chosen = hidden_TE[-suffix:], chosen[-suffix:]
        q_THD, k_THD, v_THD = project(layer, hidden_TE)
        q_THD, k_THD = rotate(model, q_THD, chosen), rotate(model, k_THD, chosen)
        keys, values = rotate(model, old[index][0], list(range(len(ids)))), old[index][1].clone()
        if index == 1 and count:
            new, replaced = (v_THD, values) if part == "values" else (k_THD, keys)
            deviation = [float(((new[t] - replaced[t]) ** 2).sum()) for t in range(others)]
            top = sorted(range(others), key=lambda t: deviation[t], reverse=True)[:count]
            keys, values = k_THD, v_THD
            chosen = [*sorted(top), *range(others, len(ids))]
            q_THD, hidden_TE = q_THD[chosen], hidden_TE[chosen]
        else:
            keys[chosen], values[chosen] = k_THD, v_THD
        hidden_TE = hidden_TE + layer.self_attn.o_proj(attend(q_THD, keys, values, chosen).flatten(1))
        hidden_TE = hidden_TE + layer.mlp(layer.post_attention_layernorm(hidden_TE))
        kv.append((keys, values))
    return Blended(model.network.lm_head(decoder.norm(hidden_TE[-1])), kv, chosen)


@torch.inference_mode()
def rerun(model: LoadedModel, ids: Ids, old: Layers, chosen: list[int]) -> Blended:
    """Run the tokens at ``chosen``, the last one among them, through all layers over ``old``."""
    decoder, kv = model.network.model, []
    hidden_TE = decoder.embed_tokens(torch.tensor([ids[position] for position in chosen]))
    for index, layer in enumerate(decoder.layers):
        q_THD, k_THD, v_THD = project(layer, hidden_TE)
        keys, values = rotate(model, old[index][0], list(range(len(ids)))), old[index][1].clone()
        keys[chosen], values[chosen] = rotate(model, k_THD, chosen), v_THD
        seen = attend(rotate(model, q_THD, chosen), keys, values, chosen)
        hidden_TE = hidden_TE + layer.self_attn.o_proj(seen.flatten(1))
        hidden_TE = hidden_TE + layer.mlp(layer.post_attention_layernorm(hidden_TE))
        kv.append((keys, values))
    return Blended(model.network.lm_head(decoder.norm(hidden_TE[-1])), kv, chosen)


@torch.inference_mode()
def unrotated(model: LoadedModel, ids: Ids) -> Layers:
    """Return the KV of a dense prefill, keys before rotation."""
    positions, layers = list(range(len(ids))), []
    hidden_TE = model.network.model.embed_tokens(torch.tensor(ids))
    for layer in model.network.model.layers:
        q_THD, k_THD, v_THD = project(layer, hidden_TE)
        layers.append((k_THD, v_THD))
        q_THD, at_THD = rotate(model, q_THD, positions), rotate(model, k_THD, positions)
        hidden_TE = hidden_TE + layer.self_attn.o_proj(attend(q_THD, at_THD, v_THD, positions).flatten(1))
        hidden_TE = hidden_TE + layer.mlp(layer.post_attention_layernorm(hidden_TE))
    return layers


def assemble(model: LoadedModel, template: Template, contents: dict[str, Ids], *, header: Ids, filler: Ids) -> Layers:
    """Return the prompt's pieces side by side: texts from a prefill with filler in the holes, contents of holes from a
    prefill alone under the header."""
    filled = template.fill(dict.fromkeys(template.holes, filler))
    texts = unrotated(model, filled.token_ids)
    alone = {hole: unrotated(model, header + ids) for hole, ids in contents.items()}
    layers: Layers = []
    for index in range(len(texts)):
        pieces = [[part[filled.texts[0].start : filled.texts[0].stop] for part in texts[index]]]
        for hole, span in zip(template.holes, filled.texts[1:], strict=True):
            pieces.append([part[len(header) :] for part in alone[hole][index]])
            pieces.append([part[span.start : span.stop] for part in texts[index]])
        layers.append((torch.cat([piece[0] for piece in pieces]), torch.cat([piece[1] for piece in pieces])))
    return layers


def project(layer: Any, hidden_TE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    attention, normed_TE = layer.self_attn, layer.input_layernorm(hidden_TE)
    q, k, v = (
        projection(normed_TE).view(len(hidden_TE), -1, attention.head_dim)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    if hasattr(attention, "q_norm"):
        q, k = attention.q_norm(q), attention.k_norm(k)
    return q, k, v


def rotate(model: LoadedModel, x_THD: Tensor, positions: list[int]) -> Tensor:
    """Rotate each pair of channels i and i + D/2 by position * theta^(-2i/D): the default RoPE."""
    theta, half = model.network.config.rope_parameters["rope_theta"], x_THD.shape[2] // 2
    out = torch.empty_like(x_THD)
    for i in range(half):
        cos, sin = (
            torch.tensor([turn(position * theta ** (-i / half)) for position in positions])[:, None]
            for turn in (math.cos, math.sin)
        )
        out[:, :, i] = x_THD[:, :, i] * cos - x_THD[:, :, i + half] * sin
        out[:, :, i + half] = x_THD[:, :, i + half] * cos + x_THD[:, :, i] * sin
    return out


def attend(q_THD: Tensor, keys: Tensor, values: Tensor, positions: list[int]) -> Tensor:
    """Let each query attend to everything up to its position."""
    shared = q_THD.shape[1] // keys.shape[1]
    keys, values = (kv.repeat_interleave(shared, dim=1) for kv in (keys, values))
    out = torch.empty_like(q_THD)
    for row, position in enumerate(positions):
        scores_CH = (keys[: position + 1] * q_THD[row]).sum(dim=-1) / math.sqrt(q_THD.shape[2])
        out[row] = (torch.softmax(scores_CH, dim=0)[:, :, None] * values[: position + 1]).sum(dim=0)
    return out
