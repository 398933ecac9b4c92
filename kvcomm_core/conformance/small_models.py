"""Randomly initialised small models of every family that the engine serves."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from kvcomm_core.models.loading import LoadedModel, wrap_model

VOCABULARY = 97
LAYERS = 6
"""Six layers, so that an error in a deep layer shows."""


def random_model(family: str, dtype: torch.dtype) -> LoadedModel:
    """Return a model of a family, the same at each call: 4 query heads on 2 key/value heads of size 16.

    Its weights are larger than usual, so that attention is far from uniform. It has no end token.
    """
    config = AutoConfig.for_model(
        family,
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=256,
        sliding_window=None,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    return wrap_model(f"random {family}", network, tokenizer=None)
