"""The distances of a sample to an anchor's base values, against float64."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvcomm_core.config import KVCommConfig
from kvcomm_core.criteria import Distances, judge, measure_distances
from kvcomm_core.methods.matching import SAME_BASE
from kvcomm_core.pools import base_values
from kvcomm_core.pools.base_values import BaseValues, Values, cosines

LAYERS = (6, 4)
HEADS, CHANNELS = 3, 32


def draw(tokens: int, seed: int, dtype: torch.dtype = torch.float32) -> Values:
    """Two layer groups, in which the scale differs from layer to layer as in real models."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        (
            torch.randn(layers, HEADS, tokens, CHANNELS, generator=generator)
            * torch.arange(1, layers + 1)[:, None, None, None]
        ).to(dtype)
        for layers in LAYERS
    )


def at_distance(sample: Values, distance: float, seed: int, more: int = 0) -> Values:
    """An anchor at about this relative distance, with ``more`` tokens than the sample."""
    other, tokens = draw(sample[0].shape[2] + more, seed), sample[0].shape[2]
    size = math.sqrt(sum(float(v.double().square().sum()) for v in sample))
    apart = distance * size / math.sqrt(sum(float(o[:, :, :tokens].double().square().sum()) for o in other))
    moved = [o * apart for o in other]
    for m, v in zip(moved, sample, strict=True):
        m[:, :, :tokens] += v
    return tuple(moved)


def exact(sample: Values, anchor: Values) -> float:
    tokens = sample[0].shape[2]
    pairs = [(v.double(), a[:, :, :tokens].double()) for v, a in zip(sample, anchor, strict=True)]
    return math.sqrt(
        sum(float((v - a).square().sum()) for v, a in pairs) / sum(float(v.square().sum()) for v, _ in pairs)
    )


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("block", [1, 1 << 12, 3 << 18])
def test_distances_are_those_of_float64(compact: bool, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Near and far, with anchors as long as the sample and longer, in blocks of one head and of all. Would catch
    differences lost where ||v||^2, ||a||^2 and v.a nearly cancel, squares of tokens that the sample does not have,
    a block left out, and anchors that change places."""
    monkeypatch.setattr(base_values, "_BLOCK", block)
    sample = draw(60, 0)
    wanted = [1e-5, 1.3, 0.049, 0.7, 0.051, 0.2, 1.29, 0.98, 1.02, 3.0]
    anchors = [at_distance(sample, d, seed + 1, more=7 * (seed % 2)) for seed, d in enumerate(wanted)]
    reference = torch.tensor([exact(sample, anchor) for anchor in anchors], dtype=torch.float64)
    held = [BaseValues.of(anchor, compact=compact) for anchor in anchors]
    got = measure_distances(sample, held).relative()
    assert (got - reference)[1:].abs().max() < (2e-5 if compact else 2e-7)
    # The rounding of float16 is itself at a distance, which shows only where there is no other.
    assert abs(got[0] - reference[0]) < (3e-4 if compact else 1e-9)
    assert ((got <= SAME_BASE) == (reference <= SAME_BASE)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_verdicts_and_weights_are_those_of_float64(dtype: torch.dtype) -> None:
    """Forty samples, judged at the sharp temperature of the default criterion. Would catch distances too coarse for
    it, as those of a product in bfloat16 are."""
    config = KVCommConfig(gamma=0.7)
    pool = [draw(24, 100 + seed, dtype) for seed in range(12)]
    held = [BaseValues.of(anchor) for anchor in pool]
    accepted = 0
    for seed in range(40):
        sample = draw(20 + seed % 5, seed, dtype)
        reference = Distances(torch.tensor([exact(sample, anchor) for anchor in pool], dtype=torch.float64), 1.0)
        got = measure_distances(sample, held)
        expected, verdict = judge(config, reference), judge(config, got)
        assert verdict.shareable == expected.shareable
        assert verdict.entropy_ratio == pytest.approx(expected.entropy_ratio, abs=3e-4)
        weights = (torch.softmax(-d.relative() / config.blend_temperature, dim=0) for d in (got, reference))
        torch.testing.assert_close(*weights, rtol=0, atol=1e-5)
        accepted += verdict.shareable
    assert 0 < accepted < 40, "both verdicts must occur"


def test_what_is_held() -> None:
    """Would catch values squared in place, float16 infinity for a large number, and a 16-bit model's values that are
    rounded once more."""
    values = draw(5, 0)
    before = [v.clone() for v in values]
    held = BaseValues.of(values)
    assert all(torch.equal(v, b) for v, b in zip(values, before, strict=True))
    assert [v.dtype for v in held.groups] == [torch.float16, torch.float16]
    assert held.nbytes == sum(v.numel() * 2 for v in values) + 5 * 8
    values[1][0, 0, 0, 0] = 1e5
    large = BaseValues.of(values)
    assert [v.dtype for v in large.groups] == [torch.float16, torch.float32]
    assert measure_distances(values, [large]).relative().item() == pytest.approx(0.0, abs=1e-3)
    assert BaseValues.of(draw(5, 0, torch.bfloat16)).groups[0].dtype == torch.bfloat16
    in_full = BaseValues.of(values, compact=False)
    assert all(a is b for a, b in zip(in_full.groups, values, strict=True))
    assert BaseValues.none().nbytes == 0


@given(st.integers(0, 4), st.integers(0, 3))
def test_cosines_equal_the_formula(tokens: int, more: int) -> None:
    """Would catch the norm of a whole anchor instead of its first tokens, and 0 / 0 for an empty sample."""
    sample, anchor = draw(tokens, 1), draw(tokens + more, 2)
    pairs = [(v.double(), a[:, :, :tokens].double()) for v, a in zip(sample, anchor, strict=True)]
    dot, v2, a2 = (
        sum(float((x * y).sum()) for x, y in ps)
        for ps in (pairs, [(v, v) for v, _ in pairs], [(a, a) for _, a in pairs])
    )
    expected = dot / math.sqrt(v2 * a2) if tokens else 0.0
    assert cosines(sample, [BaseValues.of(anchor, compact=False)]).tolist() == [pytest.approx(expected, abs=1e-6)]


@pytest.mark.gpu
def test_a_gpu_measures_the_same() -> None:
    """Would catch a sum on the wrong device, and a distance taken in 16 bits."""
    sample, pool = draw(20, 0, torch.bfloat16), [draw(24, seed, torch.bfloat16) for seed in (1, 2)]
    on_gpu = [BaseValues.of(tuple(a.cuda() for a in anchor)) for anchor in pool]
    on_host = [BaseValues.of(tuple(a.cuda() for a in anchor), on_host=True) for anchor in pool]
    for held in (on_gpu, on_host):
        got = measure_distances(tuple(v.cuda() for v in sample), held).relative().tolist()
        assert got == pytest.approx([exact(sample, anchor) for anchor in pool], rel=1e-5)
        assert cosines(tuple(v.cuda() for v in sample), held).device.type == "cpu"
