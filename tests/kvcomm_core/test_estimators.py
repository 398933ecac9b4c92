"""Every estimator against its formula written out in loops."""

import math
from collections.abc import Callable

import pytest
import torch

from kvcomm_core.config import Estimator, KVCommConfig
from kvcomm_core.criteria import measure_distances
from kvcomm_core.estimators import ElementWeights, Weights, weigh
from kvcomm_core.kv import KV, Part
from kvcomm_core.pools.anchors import Anchor
from kvcomm_core.pools.base_values import BaseValues

LAYERS, HEADS, CHANNELS, TOKENS = (4, 2), 2, 4, 3
"""Two layer groups, six layers."""

Tensors = tuple[torch.Tensor, ...]


def random_kv(tokens: int, seed: int, dtype: torch.dtype = torch.float32) -> KV:
    generator = torch.Generator().manual_seed(seed)

    def tensors(scale: float) -> Tensors:
        return tuple(
            (scale * torch.randn(layers, HEADS, tokens, CHANNELS, generator=generator)).to(dtype) for layers in LAYERS
        )

    return KV(tensors(2.0), tensors(0.7))  # keys lie further apart than values, as in real models


SAMPLE = random_kv(TOKENS, 0)
BASES = [random_kv(tokens, seed) for tokens, seed in ((3, 1), (5, 2), (4, 3))]
"""Base KV of the anchors."""


def weights_of(estimator: Estimator, sample: KV = SAMPLE, bases: list[KV] = BASES) -> Weights:
    config = KVCommConfig(estimator=estimator, blend_temperature=0.1)
    anchors = [Anchor((), BaseValues.of(base.values, compact=False), {}, base.keys) for base in bases]
    return weigh(sample, anchors, measure_distances(sample.values, [anchor.base_values for anchor in anchors]), config)


def elements(values: Tensors, tokens: range) -> list[float]:
    return [
        float(v[layer, head, token, channel])
        for v in values
        for layer in range(v.shape[0])
        for head in range(HEADS)
        for token in tokens
        for channel in range(CHANNELS)
    ]


def softmax(logits: list[float]) -> list[float]:
    exponentials = [math.exp(logit - max(logits)) for logit in logits]
    return [e / sum(exponentials) for e in exponentials]


def test_l2_norm() -> None:
    """Would catch an absolute instead of a relative distance, or a temperature that multiplies."""
    sample = elements(SAMPLE.values, range(TOKENS))
    distances = []
    for base in BASES:
        squares = [(x - y) ** 2 for x, y in zip(sample, elements(base.values, range(TOKENS)), strict=True)]
        distances.append(math.sqrt(sum(squares) / sum(x**2 for x in sample)))
    expected = softmax([-d / 0.1 for d in distances])
    weights = weights_of("l2_norm")
    assert weights.placeholder == pytest.approx(expected)
    assert weights.text == pytest.approx(expected)


def test_cosine() -> None:
    """Would catch a cosine distance where a similarity is meant, which prefers the least similar anchor."""
    sample = elements(SAMPLE.values, range(TOKENS))
    similarities = []
    for base in BASES:
        other = elements(base.values, range(TOKENS))
        dot = sum(x * y for x, y in zip(sample, other, strict=True))
        similarities.append(dot / math.sqrt(sum(x**2 for x in sample) * sum(y**2 for y in other)))
    assert weights_of("cosine").placeholder == pytest.approx(softmax([s / 0.1 for s in similarities]))


def test_nearest() -> None:
    """Would catch taking the farthest, or a soft weight."""
    distances = measure_distances(SAMPLE.values, [BaseValues.of(base.values) for base in BASES]).euclidean_A.tolist()
    expected = [float(d == min(distances)) for d in distances]
    assert weights_of("nearest").placeholder == expected


def token_weights(part: Part, token: int) -> list[float]:
    """The public code's weights of the placeholder, for the keys or the values of one token."""
    sample = elements(getattr(SAMPLE, part), range(token, token + 1))
    differences = []
    for base in BASES:
        other = elements(getattr(base, part), range(token, token + 1))
        differences.append(sum(abs(x - y) for x, y in zip(sample, other, strict=True)) / len(sample))
    return softmax([-d for d in differences])


def channel_weights(part: Part, group: int, layer: int, head: int, channel: int) -> list[float]:
    """The public code's weights of the text, for one channel of the keys or the values: ends are aligned."""
    norms = []
    for base in BASES:
        a = getattr(base, part)[group][layer, head, :, channel].tolist()
        x = getattr(SAMPLE, part)[group][layer, head, :, channel].tolist()
        norms.append(math.sqrt(sum((one - other) ** 2 for one, other in zip(x, a[-TOKENS:], strict=True))))
    return softmax([-n for n in norms])


@pytest.mark.parametrize("part", ["keys", "values"])
def test_upstream_placeholder_weights(part: Part) -> None:
    """Would catch a mean over the wrong axes: one weight per token, the same in every layer, head and channel."""
    weights = weights_of("upstream").placeholder
    for token in range(TOKENS):
        for weight, expected in zip(weights, token_weights(part, token), strict=True):
            assert isinstance(weight, ElementWeights)
            for group in range(len(LAYERS)):
                assert weight.of(part, group).shape == (1, 1, TOKENS, 1)
                assert float(weight.of(part, group)[0, 0, token, 0]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("part", ["keys", "values"])
def test_upstream_text_weights(part: Part) -> None:
    """Would catch aligning at the start: the anchors' last tokens stand before the text, not their first."""
    weights = weights_of("upstream").text
    for group, layers in enumerate(LAYERS):
        for layer in range(layers):
            for head in range(HEADS):
                for channel in range(CHANNELS):
                    expected = channel_weights(part, group, layer, head, channel)
                    for weight, one in zip(weights, expected, strict=True):
                        assert isinstance(weight, ElementWeights)
                        assert weight.of(part, group).shape == (layers, HEADS, 1, CHANNELS)
                        assert float(weight.of(part, group)[layer, head, 0, channel]) == pytest.approx(one, rel=1e-5)


def test_upstream_weights_keys_by_distances_of_keys() -> None:
    """Would catch keys weighted by values, or the reverse: a sample whose keys are the first anchor's and whose values
    are the second's must take its keys from the first and its values from the second."""
    keys, values, far = (random_kv(TOKENS, seed) for seed in (5, 6, 7))
    bases = [KV(keys.keys, far.values), KV(far.keys, values.values)]
    weights = weights_of("upstream", KV(keys.keys, values.values), bases)
    for weight in (weights.placeholder, weights.text):
        first, second = weight
        assert isinstance(first, ElementWeights)
        assert isinstance(second, ElementWeights)
        for group in range(len(LAYERS)):
            assert (first.of("keys", group) > second.of("keys", group)).all()
            assert (first.of("values", group) < second.of("values", group)).all()


@pytest.mark.parametrize("part", ["keys", "values"])
def test_upstream_differences_are_not_rounded_to_bfloat16(part: Part) -> None:
    """Would catch a subtraction in the model's dtype, which rounds each difference before it is summed."""
    sample, base, other = (random_kv(64, seed, torch.bfloat16) for seed in (8, 9, 10))
    weights = weights_of("upstream", sample, [base, other])
    norms = [
        (getattr(sample, part)[0].double() - getattr(one, part)[0].double()).norm(dim=2, keepdim=True)
        for one in (base, other)
    ]
    expected = torch.softmax(-torch.stack(norms), dim=0)[0]
    weight = weights.text[0]
    assert isinstance(weight, ElementWeights)
    torch.testing.assert_close(weight.of(part, 0).double(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("estimator", ["l2_norm", "cosine", "nearest", "upstream"])
def test_an_empty_sample_has_weights_that_sum_to_one(estimator: Estimator) -> None:
    """Would catch nan from 0 / 0, which would spoil the text after an empty answer."""
    weights = weights_of(estimator, random_kv(0, 0)).text
    reads: list[Callable[[ElementWeights], torch.Tensor]] = [lambda w: w.of("keys", 0), lambda w: w.of("values", 1)]
    for read in reads:
        total = torch.as_tensor(sum(w if isinstance(w, float) else read(w) for w in weights), dtype=torch.float32)
        torch.testing.assert_close(total, torch.ones_like(total))


def test_the_mean_has_no_weights() -> None:
    """Would catch a new estimator that silently falls through to another's formula."""
    with pytest.raises(ValueError, match="estimator is 'mean'"):
        weights_of("mean")
