"""The size of a model's weights, from its configuration alone. Loads no torch."""

from typing import Any

from kvcomm_core.models.families import FAMILIES
from kvcomm_core.models.model_config import kv_sizes
from kvcomm_core.models.quantisation import EXPERTS, bits_of

_SHARED = ("n_shared_experts", "moe_num_shared_experts")


def count_parameters(config: dict[str, Any]) -> int:
    """Return the number of weights in matrices. Norms, biases and routers are left out: under 5 %, and under 1 % of any
    model that people run."""
    hidden = config["hidden_size"]
    layers, kv_heads, head_dim = kv_sizes(config)
    queries = config["num_attention_heads"] * head_dim
    attention = 2 * hidden * queries + 2 * hidden * kv_heads * head_dim
    matrix = hidden * FAMILIES[config["model_type"]].mlp_matrices
    dense = matrix * config.get("intermediate_size", 4 * hidden)
    with_experts = _layers_with_experts(config, layers)
    mlps = (layers - with_experts) * dense + with_experts * matrix * _experts_width(config)
    embeddings = config.get("vocab_size", 0) * hidden * (1 if config.get("tie_word_embeddings", False) else 2)
    return int(layers * attention + mlps + embeddings)


def weight_bytes(config: dict[str, Any], itemsize: int) -> int:
    """Return the bytes of the weights. Quantised ones count by their bits, the embeddings in the trial's dtype."""
    parameters = count_parameters(config)
    bits = bits_of(config["quantization_config"]) if config.get("quantization_config") else None
    if bits is None:
        return parameters * itemsize
    matrices = 1 if config.get("tie_word_embeddings", False) else 2
    embeddings = config.get("vocab_size", 0) * config["hidden_size"] * matrices
    return int((parameters - embeddings) * bits / 8 + embeddings * itemsize)


def _layers_with_experts(config: dict[str, Any], layers: int) -> int:
    if not _first(config, EXPERTS):
        return 0
    dense = len(config.get("mlp_only_layers") or []) or config.get("first_k_dense_replace")
    return layers - min(layers, int(dense or config.get("moe_layer_start_index") or 0))


def _experts_width(config: dict[str, Any]) -> int:
    """Return the width of all experts of a layer together, those that every token takes included."""
    width = config.get("moe_intermediate_size") or config.get("intermediate_size", 0)
    shared = config.get("shared_expert_intermediate_size") or width * (_first(config, _SHARED) or 0)
    return int(width * (_first(config, EXPERTS) or 0) + shared)


def _first(config: dict[str, Any], fields: tuple[str, ...]) -> int | None:
    return next((config[field] for field in fields if isinstance(config.get(field), int)), None)
