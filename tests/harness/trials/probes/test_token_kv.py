"""Keys and values of single tokens behind a prefix, against one whole forward pass per token."""

import pytest
import torch
from tiny_models import ROPES, tiny_model

from harness.trials.probes.token_kv import token_kv

PREFIX = (3, 14, 15, 9, 2, 6)
TOKENS = [*range(40), 7]
"""More than one batch, and one token twice."""


@pytest.mark.parametrize("rope", ROPES)
@torch.inference_mode()
def test_it_is_what_a_whole_pass_gives(rope: str) -> None:
    """Would catch a token that sees the one before it, the last batch's padding, KV of another row, and keys at the
    prefix's own position or moved the other way."""
    model = tiny_model(rope=rope)
    got = token_kv(model, PREFIX, TOKENS)
    at_start = token_kv(model, (), TOKENS)
    assert got.keys_LNE.shape == (6, len(TOKENS), 2 * 16)
    for index, token in enumerate(TOKENS):
        cache = model.network(torch.tensor([[*PREFIX, token]]), use_cache=True).past_key_values
        for layer in range(2):
            keys, values = cache.layers[layer].keys[0, :, -1], cache.layers[layer].values[0, :, -1]
            torch.testing.assert_close(got.placed_keys_LNE[layer, index], keys.flatten(), atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(got.values_LNE[layer, index], values.flatten(), atol=1e-5, rtol=1e-4)
    # Layer 0 sees no context: moved to position 0, its keys are those of the token there.
    torch.testing.assert_close(got.keys_LNE[0], at_start.placed_keys_LNE[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(got.values_LNE[0], at_start.values_LNE[0], atol=1e-6, rtol=1e-5)
    assert (got.keys_LNE[1] - at_start.keys_LNE[1]).norm() > 0.1, "layer 1 must see its context"
    assert (got.placed_keys_LNE[0] - got.keys_LNE[0]).norm() > 0.1, "the position must matter"


def test_the_context_has_an_end() -> None:
    """Would catch positions that the model was not made for."""
    with pytest.raises(ValueError, match="257 tokens; allowed: the model's context of 256"):
        token_kv(tiny_model(), (1,) * 256, [1])
