"""Recognise decoder layers whose arithmetic :class:`~kvcomm_core.fused.step.DecodeStep` knows.

A layer is known by the class that transformers gives it, by the modules it has, and by their shapes. What is not known
exactly is not fused: the reason is returned, and transformers' own forward pass serves the model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Linear, functional

from kvcomm_core.fused.int8_linear import Int8Linear, int8_product
from kvcomm_core.fused.packed_linear import PackedLinear

FAMILIES = {
    "granite": "Granite",
    "llama": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "seed_oss": "SeedOss",
    "smollm3": "SmolLM3",
}
"""Families with Llama's decoder layer, and how transformers begins the names of their classes. They differ in biases,
norms of queries and keys (Qwen3), layers that do not rotate (SmolLM3) and a factor of what a layer adds (Granite)."""

PLAIN_ON = ("cuda",)
"""Devices on which torch's own linear layers are fused. On a CPU they are those that no faster product serves."""

Product = Callable[[Tensor], Tensor]
"""``[B, I]`` to ``[B, O]``."""


@dataclass(frozen=True, slots=True)
class FusedLayer:
    """One decoder layer: its products, side by side where they have the same input, and what lies between them."""

    norm: Callable[[Tensor], Tensor]
    qkv: Product
    """Queries, keys and values, in this order."""
    q_norm: Callable[[Tensor], Tensor] | None
    """Norm of each head's queries; None for none."""
    k_norm: Callable[[Tensor], Tensor] | None
    rotates: bool
    scaling: float
    """Factor of the scores."""
    output: Product
    mlp_norm: Callable[[Tensor], Tensor]
    gate_up: Product
    activation: Callable[[Tensor], Tensor]
    down: Product
    residual: float
    """Factor of what attention and MLP add to the hidden state."""


def fuse_layers(network: Any) -> list[FusedLayer] | str:
    """Return the layers of a network with their products side by side, or why it is not fused.

    The network keeps its modules. No weight is held twice.
    """
    layers = list(network.model.layers)
    for layer in layers:
        if reason := _unknown(network.config, layer):
            return reason
    return [_fuse(layer) for layer in layers]


def _unknown(config: Any, layer: Any) -> str | None:
    """Return what is not known about a layer; None if all is."""
    if config.model_type not in FAMILIES:
        return f"layers of {config.model_type} are not fused"
    if config._attn_implementation != "sdpa":
        return f"attention is {config._attn_implementation}"
    attention, mlp = layer.self_attn, layer.mlp
    prefix = FAMILIES[config.model_type]
    for module, name in ((layer, "DecoderLayer"), (attention, "Attention"), (mlp, "MLP")):
        expected = (f"transformers.models.{config.model_type}.modeling_{config.model_type}", prefix + name)
        if (type(module).__module__, type(module).__name__) != expected:
            return f"a layer has the class {type(module).__name__}"
    expected_modules = {
        "layer": (layer, {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}),
        "attention": (attention, {"q_proj", "k_proj", "v_proj", "o_proj"}),
        "MLP": (mlp, {"gate_proj", "up_proj", "down_proj", "act_fn"}),
    }
    for where, (module, expected_names) in expected_modules.items():
        extra = set(dict(module.named_children())) ^ expected_names
        if extra - {"q_norm", "k_norm"}:
            return f"a layer's {where} differs in {min(extra)}"
    for group in (_matrices(attention), [attention.o_proj], _matrices(mlp), [mlp.down_proj]):
        kinds = {type(linear) for linear in group}
        plain = {Linear} if all(weight.device.type in PLAIN_ON for weight in group[0].parameters()) else set()
        if len(kinds) > 1 or not kinds <= {PackedLinear, Int8Linear} | plain:
            return f"a matrix is {sorted(kind.__name__ for kind in kinds)[0]}"
    norms = {hasattr(attention, name) for name in ("q_norm", "k_norm")}
    if len(norms) > 1 or (True in norms and attention.q_norm.weight.shape != (attention.head_dim,)):
        return "queries and keys are normalised in a way of their own"
    return None


def _matrices(module: Any) -> tuple[Any, ...]:
    """Return the layers of an attention or an MLP that share its input."""
    names = ("q_proj", "k_proj", "v_proj") if hasattr(module, "q_proj") else ("gate_proj", "up_proj")
    return tuple(getattr(module, name) for name in names)


def _fuse(layer: Any) -> FusedLayer:
    attention, mlp = layer.self_attn, layer.mlp
    return FusedLayer(
        norm=layer.input_layernorm,
        qkv=_side_by_side(_matrices(attention)),
        q_norm=getattr(attention, "q_norm", None),
        k_norm=getattr(attention, "k_norm", None),
        rotates=bool(getattr(attention, "use_rope", True)),
        scaling=float(attention.scaling),
        output=_side_by_side([attention.o_proj]),
        mlp_norm=layer.post_attention_layernorm,
        gate_up=_side_by_side(_matrices(mlp)),
        activation=mlp.act_fn,
        down=_side_by_side([mlp.down_proj]),
        residual=float(getattr(layer, "residual_multiplier", 1.0)),
    )


def _side_by_side(linears: Sequence[Any]) -> Product:
    """Return one product for several linear layers. Packed matrices cannot be joined, but int8 ones share the scaled
    input. The weights of plain layers become views of one matrix."""
    if len(linears) == 1:
        alone: Product = linears[0]
        return alone
    if isinstance(linears[0], PackedLinear):
        return lambda x_BI: torch.cat([linear(x_BI) for linear in linears], dim=1)
    sizes = [linear.out_features for linear in linears]
    bias_O = None
    if known := [linear.bias for linear in linears if linear.bias is not None]:
        biases = zip((linear.bias for linear in linears), sizes, strict=True)
        bias_O = torch.cat([known[0].new_zeros(size) if bias is None else bias for bias, size in biases])
    if isinstance(linears[0], Int8Linear):
        sums_O = torch.cat([linear.sums_O for linear in linears])
        return lambda x_BI: int8_product(x_BI, linears, sums_O, bias_O)
    weight_OI = torch.cat([linear.weight for linear in linears])
    for linear, part in zip(linears, weight_OI.split(sizes), strict=True):
        linear.weight.data = part
    return lambda x_BI: functional.linear(x_BI, weight_OI, bias_O)
