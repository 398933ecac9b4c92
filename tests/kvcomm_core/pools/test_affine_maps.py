"""Affine maps against a ridge regression on all tokens at once, in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kvcomm_core.kv import KV
from kvcomm_core.pools.affine_maps import RIDGE, SHRINK, AffineKV

HEADS, SIZE = 2, 3


def draw(tokens: int, seed: int, layers: int = 2) -> KV:
    generator = torch.Generator().manual_seed(seed)
    keys, values = (torch.randn(layers, HEADS, tokens, SIZE, generator=generator) for _ in range(2))
    return KV((keys * 3 + 1,), (values,))


def maps_of(samples: list[tuple[KV, KV]]) -> AffineKV:
    maps = AffineKV.of(*samples[0])
    for base, offset in samples[1:]:
        maps = maps.updated(base, offset)
    return maps


def slowly(xs: list[Tensor], ys: list[Tensor], x_TD: Tensor) -> Tensor:
    """Estimate the offsets of ``x_TD`` from the samples of one head, all ``[T, D]``."""
    xs, ys = [x.double() for x in xs], [y.double() for y in ys]
    all_x, all_y = torch.cat(xs), torch.cat(ys)
    mean_x, mean_y = all_x.mean(0), all_y.mean(0)
    moments = sum(torch.outer(x - mean_x, x - mean_x) for x in all_x)
    crossed = sum(torch.outer(x - mean_x, y - mean_y) for x, y in zip(all_x, all_y, strict=True))
    assert isinstance(moments, Tensor)
    weights = torch.linalg.inv(moments + RIDGE * moments.trace() / SIZE * torch.eye(SIZE)) @ crossed
    estimates = []
    for t, x in enumerate(x_TD.double()):
        left = [y[t] - ((own[t] - mean_x) @ weights + mean_y) for own, y in zip(xs, ys, strict=True) if t < len(own)]
        shrunk = sum(left, torch.zeros(SIZE, dtype=torch.double)) / (len(left) + SHRINK)
        estimates.append((x - mean_x) @ weights + mean_y + shrunk)
    return torch.stack(estimates)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=5).filter(lambda lengths: sum(lengths) > 1), st.integers(1, 8))
def test_the_running_fit_equals_one_on_all_tokens_at_once(lengths: list[int], tokens: int) -> None:
    """Catches sums around a mean that has moved since, a residual of the wrong samples, a penalty that grows with the
    samples, and tokens beyond the longest sample."""
    samples = [(draw(length, 2 * index), draw(length, 2 * index + 1)) for index, length in enumerate(lengths)]
    asked = draw(tokens, 99)
    estimate = maps_of(samples).at(asked)
    for part in ("keys", "values"):
        read = estimate.read("keys" if part == "keys" else "values", 0, slice(0, 2), tokens)
        for layer in range(2):
            for head in range(HEADS):
                xs, ys = ([getattr(kv, part)[0][layer, head] for kv in column] for column in zip(*samples, strict=True))
                expected = slowly(xs, ys, getattr(asked, part)[0][layer, head])
                torch.testing.assert_close(read[layer, head].double(), expected, rtol=0, atol=1e-4)


def test_some_layers_and_the_first_tokens_can_be_read() -> None:
    """Blending reads block by block. Catches a map that answers for the first layers whatever was asked."""
    maps, asked = maps_of([(draw(4, 0), draw(4, 1)), (draw(6, 2), draw(6, 3))]), draw(6, 4)
    whole = maps.at(asked).read("keys", 0, slice(0, 2), 6)
    torch.testing.assert_close(maps.at(asked).read("keys", 0, slice(1, 2), 5), whole[1:2, :, :5], rtol=0, atol=1e-6)


def test_an_affine_truth_is_found() -> None:
    """Offsets that are an affine function of base KV. Catches a map that is no better than the mean."""
    rotation = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(5))).Q
    bases = [draw(40, seed) for seed in range(12)]
    truth = [KV((kv.keys[0] @ rotation + 2,), (kv.values[0] @ rotation - 1,)) for kv in bases]
    maps = maps_of(list(zip(bases[:-1], truth[:-1], strict=True)))
    estimate = maps.at(bases[-1]).read("values", 0, slice(0, 2), 40)
    left = (estimate - truth[-1].values[0]).square().sum() / (truth[-1].values[0] + 1).square().sum()
    assert left < 0.35  # the penalty alone halves the weights, which leaves a quarter


def test_memory_does_not_grow_with_the_samples() -> None:
    """Catches a map that keeps its samples."""
    few, many = (maps_of([(draw(6, 2 * n), draw(6, 2 * n + 1)) for n in range(count)]) for count in (2, 9))
    assert few.nbytes == many.nbytes > 0


def test_bfloat16_samples_are_summed_in_float32() -> None:
    """Catches sums that stop moving after some hundred samples."""

    def halved(kv: KV) -> KV:
        return KV((kv.keys[0].bfloat16(),), (kv.values[0].bfloat16(),))

    maps = maps_of([(halved(draw(3, 2 * n)), halved(draw(3, 2 * n + 1))) for n in range(4)])
    assert {tensor.dtype for one in (*maps.keys, *maps.values) for tensor in one.tensors} == {torch.float32}


@pytest.mark.parametrize("tokens", [0, 1])
def test_too_little_to_fit(tokens: int) -> None:
    """An empty sample, and one of a single token, have no spread. Catches a division by zero and a singular system."""
    maps = maps_of([(draw(tokens, 0), draw(tokens, 1))])
    assert torch.isfinite(maps.at(draw(4, 2)).read("keys", 0, slice(0, 2), 4)).all()
