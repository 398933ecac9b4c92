import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import ROPES, tiny_model

from kvcomm_core.config import Pairs
from kvcomm_core.rope import Rope

ROPE = Rope(inv_freq=((1.0, 0.1, 0.01, 0.003),))


@pytest.mark.parametrize("rope", ROPES)
@pytest.mark.parametrize("by", [1, 7, 100])
def test_moving_cached_keys_equals_recomputing_them_at_shifted_positions(rope: str, by: int) -> None:
    """Would catch a wrong sign or pairing, and applying YaRN's attention scaling a second time."""
    model = tiny_model(rope=rope)
    ids = torch.arange(1, 13)[None]
    positions = torch.arange(ids.shape[1])[None]
    with torch.inference_mode():
        here = model.network(ids, position_ids=positions, use_cache=True).past_key_values
        there = model.network(ids, position_ids=positions + by, use_cache=True).past_key_values
    for near, far in zip(here.layers, there.layers, strict=True):
        torch.testing.assert_close(model.rope.move(near.keys, by), far.keys, rtol=0, atol=1e-4)
        torch.testing.assert_close(near.values, far.values, rtol=0, atol=1e-4)


def test_move_equals_complex_multiplication() -> None:
    """Would catch pairing neighbours (i, i+1) instead of halves (i, i + D/2)."""
    keys = torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(0))
    expected = torch.empty_like(keys)
    for i, frequency in enumerate(ROPE.inv_freq[0]):
        pair = torch.complex(keys[..., i], keys[..., i + 4]) * torch.polar(
            torch.tensor(1.0), torch.tensor(9 * frequency)
        )
        expected[..., i], expected[..., i + 4] = pair.real, pair.imag
    torch.testing.assert_close(ROPE.move(keys, 9), expected)


@given(st.integers(-500, 500), st.integers(-500, 500))
def test_moves_add_up_and_keep_the_norm(first: int, second: int) -> None:
    """Would catch a rotation that is not one: scaled, or dependent on where the key stood before."""
    keys = torch.randn(1, 1, 3, 8, generator=torch.Generator().manual_seed(0))
    twice = ROPE.move(ROPE.move(keys, first), second)
    torch.testing.assert_close(twice, ROPE.move(keys, first + second), rtol=0, atol=1e-5)
    torch.testing.assert_close(twice.norm(dim=-1), keys.norm(dim=-1))


def test_bfloat16_is_rotated_in_float32() -> None:
    """Would catch rounding cos and sin to bfloat16: the only error left may be the final rounding."""
    keys = torch.randn(1, 2, 4, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    moved = ROPE.move(keys, 123)
    assert moved.dtype == torch.bfloat16
    assert torch.equal(moved, ROPE.move(keys.float(), 123).bfloat16())


def test_out_may_be_a_strided_view() -> None:
    """Would catch writing through a contiguous copy, which would leave the buffer untouched."""
    keys = torch.randn(1, 2, 4, 8, generator=torch.Generator().manual_seed(0))
    buffer = torch.zeros(1, 2, 10, 8)
    for by in (0, 5):
        ROPE.move(keys, by, out=buffer[:, :, 3:7])
        assert torch.equal(buffer[:, :, 3:7], ROPE.move(keys, by))
    assert not buffer[:, :, :3].any()
    assert not buffer[:, :, 7:].any()


@pytest.mark.parametrize("pairs", ["halves", "neighbours"])
def test_layers_in_groups_move_by_their_own_frequencies(pairs: Pairs) -> None:
    """Three layers, of which the second does not rotate, and two of six dimensions that rotate nowhere. Would catch a
    group that begins with the first layer's frequencies again, and dimensions that move though they must not."""
    rope = Rope(((1.0, 0.1), (0.0, 0.0), (0.3, 0.2)), pairs)
    keys = torch.randn(3, 2, 4, 6, generator=torch.Generator().manual_seed(0))
    first, second = rope.move_groups((keys[:1], keys[1:]), 5)
    moved = torch.cat([first, second])
    assert torch.equal(moved, rope.move(keys, 5))
    assert torch.equal(moved[1], keys[1])
    assert torch.equal(moved[..., 4:], keys[..., 4:])
    one, other = ((0, 2), (1, 3)) if pairs == "halves" else ((0, 1), (2, 3))
    for layer in (0, 2):
        for (i, j), frequency in zip((one, other), rope.inv_freq[layer], strict=True):
            pair = torch.complex(keys[layer, ..., i], keys[layer, ..., j]) * torch.polar(
                torch.tensor(1.0), torch.tensor(5 * frequency)
            )
            torch.testing.assert_close(moved[layer, ..., i], pair.real)
            torch.testing.assert_close(moved[layer, ..., j], pair.imag)
