"""The number of weights by the configuration alone, against real networks."""

import pytest
import torch
from tiny_families import VARIANTS, tiny_config
from transformers import AutoModelForCausalLM

from kvcomm_core.models.model_source import RANDOM_SHAPES
from kvcomm_core.models.size import count_parameters, weight_bytes


@pytest.mark.parametrize("family", VARIANTS)
def test_parameters_are_those_of_the_network(family: str) -> None:
    """Would catch experts, shared experts or gates left out, and tied embeddings counted twice. Norms and biases, which
    are not counted, are a larger part of tiny models."""
    for tied in (False, True):
        sizes = {"vocab_size": 1000, "hidden_size": 256, "intermediate_size": 512, "head_dim": 64}
        config = tiny_config(family, **sizes, tie_word_embeddings=tied)
        with torch.device("meta"):
            network = AutoModelForCausalLM.from_config(config)
        counted = count_parameters(config.to_dict())
        assert counted == pytest.approx(network.num_parameters(), rel=0.03)


def test_published_sizes() -> None:
    """Would catch an error that tiny models hide: Llama 3.1 8B has 8.03 billion parameters, SmolLM2-135M 134.5
    million."""
    assert count_parameters(RANDOM_SHAPES["llama-3.1-8b"]) == pytest.approx(8.03e9, rel=0.002)
    assert count_parameters(RANDOM_SHAPES["smollm2-135m"]) == pytest.approx(134.5e6, rel=0.002)


def test_quantised_weights_count_by_their_bits() -> None:
    """Would catch embeddings counted by the bits, too, and bits that are not stated taken for fewer."""
    shape = RANDOM_SHAPES["llama-3.1-8b"]
    embeddings = 2 * 128256 * 4096
    quantised = shape | {"quantization_config": {"quant_method": "awq", "bits": 4}}
    assert weight_bytes(quantised, 2) == (count_parameters(shape) - embeddings) // 2 + 2 * embeddings
    unknown = shape | {"quantization_config": {"quant_method": "compressed-tensors"}}
    assert weight_bytes(unknown, 2) == weight_bytes(shape, 2) == 2 * count_parameters(shape)
