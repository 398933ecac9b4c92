import pytest
import torch
from made_up_kv import make_kv
from transformers import DynamicCache

from kvcomm_core.decode import advance
from kvcomm_core.kv import KV, KVBuffer, KVLayout, LayerGroup, layer_groups
from kvcomm_core.models.loading import LoadedModel

IDS = tuple(range(1, 21))


@pytest.mark.parametrize("cut", [0, 1, 7, 19])
def test_a_buffer_filled_in_two_passes_equals_the_dynamic_cache(llama: LoadedModel, cut: int) -> None:
    """Would catch a wrong length, mask or position after a first pass: the cache is transformers' own."""
    buffer = KVBuffer(llama.layout, rows=1, capacity=30)
    if cut:
        advance(llama, [IDS[:cut]], buffer)
    hidden_BE = advance(llama, [IDS[cut:]], buffer)
    cache = DynamicCache()
    with torch.inference_mode():
        expected = llama.network.model(torch.tensor([IDS]), past_key_values=cache, use_cache=True).last_hidden_state
    assert buffer.length == len(IDS)
    torch.testing.assert_close(hidden_BE, expected[:, -1], rtol=0, atol=5e-5)
    kv = buffer.view(0, len(IDS))
    for layer, reference in enumerate(cache.layers):
        torch.testing.assert_close(kv.keys[0][layer], reference.keys[0], rtol=0, atol=5e-5)
        torch.testing.assert_close(kv.values[0][layer], reference.values[0], rtol=0, atol=5e-5)


def test_writing_through_a_view_is_what_the_model_attends_to(llama: LoadedModel) -> None:
    """Would catch a view that is a copy, and a length that the model does not see."""
    full = KVBuffer(llama.layout, rows=1, capacity=20)
    advance(llama, [IDS[:10]], full)
    assembled = KVBuffer(llama.layout, rows=1, capacity=20)
    for start, stop in ((4, 10), (0, 4)):
        target, source = assembled.view(start, stop), full.view(start, stop)
        target.keys[0].copy_(source.keys[0])
        target.values[0].copy_(source.values[0])
    assembled.length = 10
    torch.testing.assert_close(advance(llama, [IDS[10:]], assembled), advance(llama, [IDS[10:]], full))


def test_a_full_buffer_refuses_more(llama: LoadedModel) -> None:
    """Would catch silently dropping or wrapping tokens that do not fit."""
    buffer = KVBuffer(llama.layout, rows=1, capacity=5)
    with pytest.raises(ValueError, match="6 tokens do not fit a KVBuffer of capacity 5"):
        advance(llama, [IDS[:6]], buffer)
    with pytest.raises(ValueError, match="length is 6"):
        buffer.length = 6
    with pytest.raises(ValueError, match="tokens 3 to 6"):
        buffer.view(3, 6)


def test_sizes_are_counted_exactly(llama: LoadedModel) -> None:
    """Would catch counting the storage behind a view, or forgetting values, heads or layers."""
    kv = KVBuffer(llama.layout, rows=1, capacity=30).view(2, 9)
    assert len(kv) == 7
    assert kv.nbytes == 2 * 6 * 2 * 7 * 16 * 4  # keys and values, layers, heads, tokens, head size, float32
    assert kv.nbytes == 7 * llama.layout.bytes_per_token


def test_layers_are_grouped_by_device() -> None:
    """Would catch grouping layers that are not neighbours, which would break their order."""
    cpu, meta = torch.device("cpu"), torch.device("meta")
    assert layer_groups([cpu, cpu, meta, cpu]) == (
        LayerGroup(cpu, 2),
        LayerGroup(meta, 1),
        LayerGroup(cpu, 1),
    )


def test_a_buffer_within_another_shares_its_storage() -> None:
    """Would catch a part that is a copy, or that starts at the wrong row."""
    layout = KVLayout((LayerGroup(torch.device("cpu"), 2),), heads=1, head_dim=4, dtype=torch.float32)
    parent = KVBuffer(layout, rows=3, capacity=10)
    part = KVBuffer.within(parent, slice(1, 3), 6)
    part.view(2, 5, row=1).keys[0].fill_(7.0)
    assert (parent.view(2, 5, row=2).keys[0] == 7.0).all()
    assert (part.rows, part.capacity, part.length) == (2, 6, 0)
    part.length = 4
    assert parent.length == 0
    with pytest.raises(ValueError, match="capacity is 11"):
        KVBuffer.within(parent, slice(0, 1), 11)


def test_kv_of_several_pieces_is_taken_from_one_list_of_tensors() -> None:
    """Would catch keys taken for values, and layer groups of one piece given to the next."""
    layout = KVLayout((LayerGroup(torch.device("cpu"), 2), LayerGroup(torch.device("cpu"), 1)), 1, 4, torch.float32)
    pieces = [make_kv(tokens, seed) for seed, tokens in enumerate((3, 5))]
    tensors = iter([tensor for kv in pieces for tensor in kv.tensors])
    for kv in pieces:
        taken = KV.next_of(tensors, layout)
        assert [a is b for a, b in zip(taken.tensors, kv.tensors, strict=True)] == [True] * 4
        assert [len(taken.keys), len(taken.values)] == [2, 2]
