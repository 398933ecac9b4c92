"""Randomly initialised small models of every architecture and RoPE type that the engine serves."""

from dataclasses import replace

import torch
from chat_tokenizers import chat_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from kvcomm_core.models.loading import LoadedModel, wrap_model

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


def tiny_model(
    model_type: str = "llama",
    rope: str = "default",
    *,
    vocabulary: int = VOCABULARY,
    context: int = 256,
    layers: int = 2,
    dtype: torch.dtype = torch.float32,
) -> LoadedModel:
    """Build a model of a few layers, with 4 query heads on 2 key/value heads of size 16. Its weights are larger than
    usual, so that attention is far from uniform."""
    config = AutoConfig.for_model(
        model_type,
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=context,
        rope_parameters=ROPES[rope],
        sliding_window=None,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    return wrap_model(f"tiny-{model_type}-{rope}", network, tokenizer=None)


def tiny_chat_model(dtype: torch.dtype = torch.float32) -> LoadedModel:
    """Build a tiny Llama that reads bytes in ChatML. Its answers are noise, but always the same noise."""
    chat = chat_tokenizer("smollm2")
    model = tiny_model(vocabulary=len(chat), context=8192, dtype=dtype)
    return replace(model, tokenizer=chat, eos_ids=frozenset([chat.eos_token_id]))
