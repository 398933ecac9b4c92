"""Randomly initialised two-layer models of every architecture and RoPE type that the engine serves."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from kvcomm_core.model import LoadedModel, wrap_model

VOCABULARY = 97
MODEL_TYPES = ("llama", "qwen2", "qwen3", "mistral")
ROPES = {
    "default": {"rope_type": "default", "rope_theta": 10000.0},
    "llama3": {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "yarn": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64},
}


def tiny_model(model_type: str = "llama", rope: str = "default", seed: int = 0) -> LoadedModel:
    """Two layers, 4 query heads on 2 key/value heads of size 16, float32, weights larger than usual so that
    attention is far from uniform."""
    config = AutoConfig.for_model(
        model_type,
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=256,
        rope_parameters=ROPES[rope],
        sliding_window=None,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    torch.manual_seed(seed)
    network = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
    return wrap_model(f"tiny-{model_type}-{rope}", network, tokenizer=None)
