"""Randomly initialised small models of every family, with the parts that set the family apart switched on.

Norms and biases are random, too: where they are 1 and 0, as transformers initialises them, an error in their place or
order does not show.
"""

from typing import Any

import torch
from tiny_models import ROPES, VOCABULARY
from transformers import AutoConfig, AutoModelForCausalLM

from kvcomm_core.conformance.small_models import LAYERS, OWN_FIELDS, WINDOW
from kvcomm_core.models.attention import attention_of
from kvcomm_core.models.families import FAMILIES
from kvcomm_core.models.loading import LoadedModel, wrap_model

_ALTERNATING = ["sliding_attention", "full_attention"] * (LAYERS // 2)

_VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "llama": {"with biases": {"attention_bias": True, "mlp_bias": True}},
    "qwen2": {"with windows": {"use_sliding_window": True, "sliding_window": WINDOW, "layer_types": _ALTERNATING}},
    "qwen3": {"with windows": {"use_sliding_window": True, "sliding_window": WINDOW, "layer_types": _ALTERNATING}},
    "mistral": {"with a window": {"sliding_window": WINDOW}},
    "qwen3_moe": {
        "with a window": {
            **OWN_FIELDS["qwen3_moe"],
            "num_experts": 4,
            "use_sliding_window": True,
            "sliding_window": WINDOW,
        }
    },
    "mixtral": {"with a window": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": WINDOW}},
    "phi3": {"partial": {"partial_rotary_factor": 0.75}, "with a window": {"sliding_window": WINDOW}},
    "gemma2": {
        "without caps": {
            "sliding_window": WINDOW,
            "query_pre_attn_scalar": 8,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
        }
    },
    "smollm3": {"with windows": {"use_sliding_window": True, "sliding_window": WINDOW}},
    "exaone4": {"without windows": {"sliding_window": None, "layer_types": ["full_attention"] * LAYERS}},
    "starcoder2": {"with a window": {"sliding_window": WINDOW}},
}
VARIANTS = {family: {"plain": OWN_FIELDS.get(family, {}), **_VARIANTS.get(family, {})} for family in FAMILIES}
"""Fields of the configuration of each variant, by family."""


def rope_of(rope: str, partial: float | None) -> dict[str, Any]:
    """The parameters of a RoPE type, for a head of 16 dimensions and a context of 256 tokens."""
    pairs = int(8 * (partial or 1.0))
    more = {
        "linear": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
        "dynamic": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0},
        "longrope": {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": [1.0 + pair / 4 for pair in range(pairs)],
            "long_factor": [2.0 + pair for pair in range(pairs)],
            "original_max_position_embeddings": 128,
        },
    }
    found = {**ROPES, **more}[rope]
    return found if partial is None else found | {"partial_rotary_factor": partial}


def tiny_family(
    model_type: str, variant: str = "plain", rope: str = "default", *, dtype: torch.dtype = torch.float32, **more: Any
) -> LoadedModel:
    """Build a model of six layers, 4 query heads on 2 key/value heads of size 16, and a context of 256 tokens."""
    network = tiny_network(model_type, variant, rope, dtype=dtype, **more)
    return wrap_model(f"tiny-{model_type}", network, tokenizer=None)


def tiny_config(model_type: str, variant: str = "plain", rope: str = "default", **more: Any) -> Any:
    """Return the configuration of :func:`tiny_family`'s model."""
    fields = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 256,
        "original_max_position_embeddings": 128,
        "initializer_range": 0.2,
        "tie_word_embeddings": False,  # or answers repeat their first token, and are alike for all questions
        "bos_token_id": None,
        "eos_token_id": [],
        "pad_token_id": None,
        **VARIANTS[model_type].get(variant, {}),
        **more,
    }
    parameters = rope_of(rope, fields.get("partial_rotary_factor"))
    by_type = model_type in ("gemma3_text", "olmo3")
    local = {"rope_type": "default", "rope_theta": 500.0}
    fields["rope_parameters"] = {"full_attention": parameters, "sliding_attention": local} if by_type else parameters
    return AutoConfig.for_model(model_type, **fields)


def tiny_network(
    model_type: str, variant: str = "plain", rope: str = "default", *, dtype: torch.dtype = torch.float32, **more: Any
) -> Any:
    """Return the transformers model of :func:`tiny_family`."""
    config = tiny_config(model_type, variant, rope, **more)
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention_of(config))
    for name, weights in network.named_parameters():
        if weights.dim() == 1 or "norm" in name or "sink" in name:
            shift = 1.0 if bool((weights == 1).all()) else 0.0
            weights.data = (shift + 0.3 * torch.randn(weights.shape)).to(dtype)
    return network
