import pytest
import torch

from kvcomm_core.estimators import add_blend


def tensors(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 2, tokens, 4, generator=generator) for tokens in lengths]


def test_add_blend_equals_explicit_loops() -> None:
    """Equation 6 written out. Would catch weights applied to the wrong anchor, or tokens aligned at the end."""
    base, *offsets = tensors(3, 3, 5)
    weights = [0.25, 0.75]
    expected = torch.empty_like(base)
    for layer in range(2):
        for head in range(2):
            for token in range(3):
                for channel in range(4):
                    at = (layer, head, token, channel)
                    expected[at] = base[at] + sum(w * o[at] for w, o in zip(weights, offsets, strict=True))
    torch.testing.assert_close(add_blend(base, offsets, weights), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_out_is_written_in_place_and_the_inputs_are_not(dtype: torch.dtype) -> None:
    """Would catch summing in bfloat16 (many small weights vanish) and blending into the stored base KV."""
    base, *offsets = (tensor.to(dtype) for tensor in tensors(3, *[4] * 30))
    kept = base.clone()
    buffer = torch.zeros(2, 2, 9, 4, dtype=dtype)
    add_blend(base, offsets, [1 / 30] * 30, out=buffer[:, :, 2:5])
    exact = base.double() + sum(offset[:, :, :3].double() for offset in offsets) / 30
    assert torch.equal(base, kept)
    torch.testing.assert_close(
        buffer[:, :, 2:5].double(), exact, rtol=2**-8 if dtype == torch.bfloat16 else 1e-5, atol=1e-5
    )
    assert not buffer[:, :, :2].any()
    assert not buffer[:, :, 5:].any()


def test_without_anchors_it_is_a_copy() -> None:
    """Would catch returning the stored base KV itself, which the caller then rotates in place."""
    (base,) = tensors(3)
    total = add_blend(base, [], [])
    assert torch.equal(total, base)
    assert total.data_ptr() != base.data_ptr()
