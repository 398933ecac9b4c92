"""Base KV of samples prefilled alone, against one forward pass of the model each."""

import pytest
import torch
from tiny_models import tiny_model

from kvcomm_core import segments
from kvcomm_core.segments import Segments

HEADER = (3, 4, 5)
SAMPLES = [(7, 8, 9, 10, 11), (), (12, 13)]


@pytest.mark.parametrize("again_from", [0, 5, 6])
@pytest.mark.parametrize("header", [HEADER, ()])
def test_samples_alone_under_the_header(
    monkeypatch: pytest.MonkeyPatch, again_from: int, header: tuple[int, ...]
) -> None:
    """Would catch the header run twice, left out or counted in where it is run again with long samples, and rows of
    a batch that see each other, and a header that runs again uncounted."""
    monkeypatch.setattr(segments, "_HEADER_AGAIN_FROM", again_from)
    model = tiny_model()
    bases, computed = Segments(model, header).prefill_alone(SAMPLES)
    again = len(header) if again_from <= max(map(len, SAMPLES)) else 0
    assert computed == [len(ids) + again for ids in SAMPLES]
    for ids, base in zip(SAMPLES, bases, strict=True):
        assert (base.token_ids, base.origin, len(base.kv)) == (ids, len(header), len(ids))
        if not ids:
            continue
        with torch.inference_mode():
            cache = model.network(torch.tensor([[*header, *ids]]), use_cache=True).past_key_values
        true_keys = torch.stack([layer.keys[0, :, len(header) :] for layer in cache.layers])
        true_values = torch.stack([layer.values[0, :, len(header) :] for layer in cache.layers])
        placed = model.rope.move(base.kv.keys[0], len(header))
        torch.testing.assert_close(placed, true_keys, rtol=0, atol=1e-4)
        torch.testing.assert_close(base.kv.values[0], true_values, rtol=0, atol=1e-4)


def test_nothing_but_empty_samples() -> None:
    """Would catch a forward pass over no tokens."""
    for header in (HEADER, ()):
        assert [len(base.kv) for base in Segments(tiny_model(), header).prefill_alone([(), ()])[0]] == [0, 0]
