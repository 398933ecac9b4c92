import pytest
import torch

from kvcomm_core.blending import Term, lift, place
from kvcomm_core.estimators import ElementWeights, Weight
from kvcomm_core.kv import KV
from kvcomm_core.packed import pack
from kvcomm_core.rope import Rope

ROPE = Rope(inv_freq=((1.0, 0.1),))


def make_kv(tokens: int, seed: int, dtype: torch.dtype = torch.float32) -> KV:
    """Two layer groups, of 2 and 1 layers."""
    generator = torch.Generator().manual_seed(seed)

    def tensors() -> tuple[torch.Tensor, ...]:
        return tuple(torch.randn(layers, 2, tokens, 4, generator=generator).to(dtype) for layers in (2, 1))

    return KV(tensors(), tensors())


def zeros(tokens: int, dtype: torch.dtype) -> KV:
    def tensors() -> tuple[torch.Tensor, ...]:
        return tuple(torch.zeros(layers, 2, tokens, 4, dtype=dtype) for layers in (2, 1))

    return KV(tensors(), tensors())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("by", [0, 7])
@pytest.mark.parametrize("count", [0, 1, 30])
def test_place_equals_explicit_loops(dtype: torch.dtype, by: int, count: int) -> None:
    """Equations 6 and 7 written out. Would catch weights on the wrong anchor, layer or part, tokens aligned at the end,
    sums in bfloat16 (30 small weights vanish), values that are rotated, and writing outside the region."""
    base, offsets = make_kv(5, 0, dtype), [make_kv(4 + n % 3, n + 1, dtype) for n in range(count)]
    weights: list[Weight] = [
        (n + 1) / (count * (count + 1) / 2)
        if n % 2
        else ElementWeights(*(tuple(torch.full((x, 2, 1, 4), scale * n) for x in (2, 1)) for scale in (0.01, 0.02)))
        for n in range(count)
    ]
    buffer = zeros(10, dtype)
    region = buffer.slice(3, 7)  # four of the base's five tokens
    place(base, [Term(pack(o), w) for o, w in zip(offsets, weights, strict=True)], region, ROPE, by)
    for group in range(2):
        for layer in range(region.keys[group].shape[0]):
            keys, values = base.keys[group][layer, :, :4].double(), base.values[group][layer, :, :4].double()
            for offset, weight in zip(offsets, weights, strict=True):
                of_keys, of_values = (
                    (weight, weight)
                    if isinstance(weight, float)
                    else (weight.keys[group][layer].double(), weight.values[group][layer].double())
                )
                keys = keys + of_keys * offset.keys[group][layer, :, :4].double()
                values = values + of_values * offset.values[group][layer, :, :4].double()
            tolerance = {"rtol": 2**-7 if dtype == torch.bfloat16 else 1e-5, "atol": 1e-5}
            torch.testing.assert_close(region.values[group][layer].double(), values, **tolerance)
            expected = torch.empty_like(keys)
            for i, frequency in enumerate(ROPE.inv_freq[0]):
                pair = torch.complex(keys[..., i], keys[..., i + 2])
                pair = pair * torch.polar(torch.tensor(1.0).double(), torch.tensor(by * frequency).double())
                expected[..., i], expected[..., i + 2] = pair.real, pair.imag
            torch.testing.assert_close(
                region.keys[group][layer].double(),
                expected,
                rtol=tolerance["rtol"],
                atol=2e-2 if dtype == torch.bfloat16 else 1e-5,
            )
    for outside in (buffer.slice(0, 3), buffer.slice(7, 10)):
        assert not any(tensor.any() for tensor in (*outside.keys, *outside.values))


@pytest.mark.parametrize("by_element", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_20_terms_of_16_bit_kv_are_summed_in_float32(dtype: torch.dtype, by_element: bool) -> None:
    """Against float64, rounded once at the end. Would catch an add in bf16, which rounds the first sum before it is
    widened, and products or weights in the model's dtype."""
    torch.manual_seed(0)
    base, offsets = make_kv(64, 0, dtype), [make_kv(64, n + 1, dtype) for n in range(20)]
    numbers = torch.softmax(torch.randn(20), dim=0).tolist()
    weights: list[Weight] = [*numbers]
    if by_element:
        parts = [[torch.full((x, 1, 1, 4), w).to(dtype) for x in (2, 1)] for w in numbers]
        weights = [ElementWeights(tuple(of_keys), tuple(of_keys)) for of_keys in parts]
        numbers = [float(of_keys[0][0, 0, 0, 0]) for of_keys in parts]
    region = zeros(64, dtype)
    place(base, [Term(pack(o), w) for o, w in zip(offsets, weights, strict=True)], region, ROPE, 0)
    for part in ("keys", "values"):
        for group in range(2):
            exact = getattr(base, part)[group].double()
            for offset, weight in zip(offsets, numbers, strict=True):
                exact = exact + weight * getattr(offset, part)[group].double()
            got = getattr(region, part)[group]
            assert (got == exact.to(dtype)).float().mean() > 0.995, "but for ties, the exact sum rounded once"
            torch.testing.assert_close(got, exact.to(dtype), rtol=1.1 * torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("by_element", [False, True])
def test_8_bit_terms_are_added_with_their_scales(by_element: bool) -> None:
    """Against the numbers that int8 stands for, in float64. Would catch a scale that is left out or taken from another
    layer, keys scaled as values, and a weight that is lost beside the scale."""
    base, offsets, numbers = make_kv(6, 0), [make_kv(6, n + 1) for n in range(3)], [0.5, 0.3, 0.2]
    packed = [pack(offset, "int8") for offset in offsets]
    weights: list[Weight] = [*numbers]
    if by_element:
        weights = [ElementWeights(*(tuple(torch.full((1, 1, 6, 1), w) for _ in range(2)),) * 2) for w in numbers]
    region = zeros(5, torch.float32)
    place(base, [Term(o, w) for o, w in zip(packed, weights, strict=True)], region, ROPE, 0)
    for part, scales in (("keys", "key_scales"), ("values", "value_scales")):
        for group in range(2):
            expected = getattr(base, part)[group].double()
            for one, weight in zip(packed, numbers, strict=True):
                expected = expected + weight * getattr(one, part)[group].double() * getattr(one, scales)[group]
            torch.testing.assert_close(getattr(region, part)[group].double(), expected[:, :, :5], rtol=1e-5, atol=1e-5)


def test_the_inputs_stay_as_they_are() -> None:
    """Would catch blending into the stored base KV, which the next request would find changed."""
    base, offset = make_kv(4, 0), make_kv(4, 1)
    kept = [tensor.clone() for kv in (base, offset) for tensor in (*kv.keys, *kv.values)]
    place(base, [Term(pack(offset), 0.5)], zeros(4, torch.float32), ROPE, 3)
    for tensor, before in zip([t for kv in (base, offset) for t in (*kv.keys, *kv.values)], kept, strict=True):
        assert torch.equal(tensor, before)


def test_an_empty_region_is_left_alone() -> None:
    """Would catch failing on an empty answer, or on the last text of one token, which is run and not placed."""
    place(make_kv(0, 0), [], zeros(0, torch.float32), ROPE, 3)
    place(make_kv(1, 0), [Term(pack(make_kv(1, 1)), 1.0)], zeros(0, torch.float32), ROPE, 3)


def test_lifting_undoes_placing() -> None:
    """Would catch keys moved the wrong way, values that are moved, and a view instead of a copy."""
    base, region = make_kv(5, 0), zeros(5, torch.float32)
    place(base, [], region, ROPE, by=7)
    lifted = lift(region, ROPE, 7)
    for tensor, reference in zip(lifted.tensors, base.tensors, strict=True):
        torch.testing.assert_close(tensor, reference, rtol=0, atol=1e-5)
    region.values[0].zero_()
    assert bool(lifted.values[0].any())
