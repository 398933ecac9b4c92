import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvcomm_core.kv import KV, Part
from kvcomm_core.packed import PackedKV, pack


def make_kv(tokens: int, scale: float = 1.0) -> KV:
    generator = torch.Generator().manual_seed(tokens)
    tensors = [torch.randn(2, 2, tokens, 4, generator=generator) * scale for _ in range(2)]
    return KV((tensors[0],), (tensors[1],))


def unpacked(packed: PackedKV, part: Part, layers: slice, tokens: int) -> torch.Tensor:
    """The numbers of the first layer group, multiplied by their scales."""
    numbers, scale = packed.read(part, 0, layers, tokens), packed.scale(part, 0, layers)
    return numbers if scale is None else numbers * scale


def test_the_models_dtype_is_kept_without_a_copy() -> None:
    """Would catch paying for storage twice."""
    kv = make_kv(5)
    packed = pack(kv)
    assert packed.read("keys", 0, slice(0, 2), 5).data_ptr() == kv.keys[0].data_ptr()
    assert (packed.nbytes, packed.elements, len(packed)) == (kv.nbytes, kv.nbytes // 4, 5)
    assert packed.fetch() is packed


@given(st.integers(0, 6), st.sampled_from([1e-30, 1e-3, 1.0, 1e4]))
def test_int8_is_within_half_a_scale_of_each_channel(tokens: int, scale: float) -> None:
    """Would catch one scale for all channels, a scale that clips the largest element, and nan where all is zero."""
    kv = make_kv(tokens, scale)
    kv.keys[0][:, :, :, 0] = 0.0
    packed = pack(kv, "int8")
    for part, tensors in (("keys", kv.keys), ("values", kv.values)):
        read = unpacked(packed, part, slice(0, 2), tokens)  # type: ignore[arg-type]
        assert read.shape == tensors[0].shape
        if tokens:
            half_a_scale = tensors[0].abs().amax(dim=2, keepdim=True) / 127 / 2
            assert ((read - tensors[0]).abs() <= half_a_scale * 1.001 + 1e-37).all()
    elements = 2 * 2 * 2 * tokens * 4
    assert packed.nbytes == elements + 2 * (2 * 2 * 4 * 4)  # one byte each, and the scales of keys and values


def test_reading_a_part_equals_the_part_of_all() -> None:
    """Would catch scales that are taken from the wrong layers."""
    packed = pack(make_kv(6), "int8")
    whole = unpacked(packed, "values", slice(0, 2), 6)
    assert torch.equal(unpacked(packed, "values", slice(1, 2), 4), whole[1:2, :, :4])


def test_host_placement_changes_nothing_on_a_cpu() -> None:
    """Would catch a copy that loses a part."""
    kv = make_kv(4)
    packed = pack(kv, "int8", "host").fetch()
    on_device = pack(kv, "int8")
    assert torch.equal(unpacked(packed, "keys", slice(0, 2), 4), unpacked(on_device, "keys", slice(0, 2), 4))


@pytest.mark.gpu
def test_host_placement_is_pinned_and_fetched_to_its_device() -> None:
    """Would catch a copy that blocks, or that ends on another device."""
    kv = make_kv(4)
    on_gpu = KV((kv.keys[0].cuda(),), (kv.values[0].cuda(),))
    packed = pack(on_gpu, "model", "host")
    assert packed.keys[0].is_pinned()
    fetched = packed.fetch().read("keys", 0, slice(0, 2), 4)
    torch.cuda.synchronize()
    assert fetched.is_cuda
    assert torch.equal(fetched.cpu(), kv.keys[0])
