"""Randomly initialised small models of every family that the engine serves."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from kvcomm_core.models.attention import attention_of
from kvcomm_core.models.loading import LoadedModel, wrap_model

VOCABULARY = 97
LAYERS = 6
"""Six layers, so that an error in a deep layer shows."""
WINDOW = 7
"""Tokens that layers of sliding attention see, fewer than any prompt has."""

_MOE = {"moe_intermediate_size": 48, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1}
_GRANITE = {
    "embedding_multiplier": 3.0,
    "logits_scaling": 4.0,
    "residual_multiplier": 0.5,
    "attention_multiplier": 0.2,
}

OWN_FIELDS: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": None},
    "qwen2_moe": {**_MOE, "num_experts": 4, "qkv_bias": True, "shared_expert_intermediate_size": 40},
    "qwen3_moe": {**_MOE, "num_experts": 4, "norm_topk_prob": True},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "phi": {"partial_rotary_factor": 0.5, "qk_layernorm": True},
    "phi3": {"sliding_window": None},
    "gemma2": {
        "sliding_window": WINDOW,
        "query_pre_attn_scalar": 8,
        "attn_logit_softcapping": 3.0,
        "final_logit_softcapping": 2.0,
    },
    "gemma3_text": {"sliding_window": WINDOW, "query_pre_attn_scalar": 8, "final_logit_softcapping": 2.0},
    "gpt_oss": {"sliding_window": WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2},
    "granite": _GRANITE,
    "granitemoe": {**_GRANITE, "num_local_experts": 4, "num_experts_per_tok": 2},
    "olmo3": {"sliding_window": WINDOW},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2, "clip_qkv": 2.0},
    "cohere": {"logit_scale": 0.25, "use_qk_norm": True},
    "cohere2": {"logit_scale": 0.25, "sliding_window": WINDOW},
    "exaone4": {"sliding_window": WINDOW, "sliding_window_pattern": 3},
    "glm4": {"partial_rotary_factor": 0.5},
    "glm4_moe": {**_MOE, "n_routed_experts": 4, "partial_rotary_factor": 0.5, "use_qk_norm": True},
    "ernie4_5": {"use_bias": True},
    "ernie4_5_moe": {**_MOE, "moe_num_experts": 4, "moe_k": 2},
    "nemotron": {"partial_rotary_factor": 0.5},
    "stablelm": {"partial_rotary_factor": 0.25, "use_qkv_bias": True, "qk_layernorm": True},
    "starcoder2": {"sliding_window": None},
}
"""Fields of the configuration that switch on what sets a family apart."""


def random_model(family: str, dtype: torch.dtype) -> LoadedModel:
    """Return a model of a family, the same at each call: 4 query heads on 2 key/value heads of size 16.

    Its weights are larger than usual, so that attention is far from uniform. It has no end token.
    """
    fields = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 256,
        "original_max_position_embeddings": 256,
        "sliding_window": None,
        "initializer_range": 0.2,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": [],
        "pad_token_id": None,
        **OWN_FIELDS.get(family, {}),
    }
    if dtype != torch.float32:
        # Rounding must not decide which experts a token goes to. So it goes to all four.
        fields |= {name: 4 for name in ("num_experts_per_tok", "moe_k") if name in fields}
    rope = {"rope_type": "default", "rope_theta": 10000.0}
    if (partial := fields.get("partial_rotary_factor")) is not None:
        rope["partial_rotary_factor"] = partial
    by_layer = family in ("gemma3_text", "olmo3")
    local = {"rope_type": "default", "rope_theta": 500.0}
    fields["rope_parameters"] = {"full_attention": rope, "sliding_attention": local} if by_layer else rope
    config = AutoConfig.for_model(family, **fields)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention_of(config))
    return wrap_model(f"random {family}", network, tokenizer=None)
