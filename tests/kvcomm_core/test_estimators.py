"""Every estimator against its formula written out in loops."""

import math

import pytest
import torch

from kvcomm_core.config import KVCommConfig
from kvcomm_core.criteria import measure_distances
from kvcomm_core.estimators import weigh

LAYERS, HEADS, CHANNELS, TOKENS = (2, 1), 2, 4, 3
"""Two layer groups."""


def random_values(tokens: int, seed: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(layers, HEADS, tokens, CHANNELS, generator=generator) for layers in LAYERS)


SAMPLE = random_values(TOKENS, 0)
ANCHORS = [random_values(tokens, seed) for tokens, seed in ((3, 1), (5, 2), (4, 3))]


def weights_of(estimator: str, temperature: float = 0.1) -> object:
    config = KVCommConfig(estimator=estimator, blend_temperature=temperature)  # type: ignore[arg-type]
    return weigh(SAMPLE, ANCHORS, measure_distances(SAMPLE, ANCHORS), config)


def elements(values: tuple[torch.Tensor, ...], tokens: range) -> list[float]:
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
    sample = elements(SAMPLE, range(TOKENS))
    distances = []
    for anchor in ANCHORS:
        squares = [(x - y) ** 2 for x, y in zip(sample, elements(anchor, range(TOKENS)), strict=True)]
        distances.append(math.sqrt(sum(squares) / sum(x**2 for x in sample)))
    expected = softmax([-d / 0.1 for d in distances])
    weights = weights_of("l2_norm")
    assert weights.placeholder == pytest.approx(expected)  # type: ignore[attr-defined]
    assert weights.text == pytest.approx(expected)  # type: ignore[attr-defined]


def test_cosine() -> None:
    """Would catch a cosine distance where a similarity is meant, which prefers the least similar anchor."""
    sample = elements(SAMPLE, range(TOKENS))
    similarities = []
    for anchor in ANCHORS:
        other = elements(anchor, range(TOKENS))
        dot = sum(x * y for x, y in zip(sample, other, strict=True))
        similarities.append(dot / math.sqrt(sum(x**2 for x in sample) * sum(y**2 for y in other)))
    assert weights_of("cosine").placeholder == pytest.approx(softmax([s / 0.1 for s in similarities]))  # type: ignore[attr-defined]


def test_nearest() -> None:
    """Would catch taking the farthest, or a soft weight."""
    distances = measure_distances(SAMPLE, ANCHORS).euclidean_A.tolist()
    expected = [float(d == min(distances)) for d in distances]
    assert weights_of("nearest").placeholder == expected  # type: ignore[attr-defined]


def test_upstream_placeholder_weights() -> None:
    """Would catch a mean over the wrong axes: one weight per token, the same in every layer, head and channel."""
    weights = weights_of("upstream").placeholder  # type: ignore[attr-defined]
    for token in range(TOKENS):
        sample = elements(SAMPLE, range(token, token + 1))
        differences = []
        for anchor in ANCHORS:
            other = elements(anchor, range(token, token + 1))
            differences.append(sum(abs(x - y) for x, y in zip(sample, other, strict=True)) / len(sample))
        for index, expected in enumerate(softmax([-d for d in differences])):
            for group in range(len(LAYERS)):
                assert weights[index][group].shape == (1, 1, TOKENS, 1)
                assert float(weights[index][group][0, 0, token, 0]) == pytest.approx(expected, rel=1e-5)


def test_upstream_text_weights() -> None:
    """Would catch aligning at the start: the anchors' last tokens stand before the text, not their first."""
    weights = weights_of("upstream").text  # type: ignore[attr-defined]
    for group, layers in enumerate(LAYERS):
        for layer in range(layers):
            for head in range(HEADS):
                for channel in range(CHANNELS):
                    norms = []
                    for anchor in ANCHORS:
                        a = anchor[group][layer, head, :, channel].tolist()
                        v = SAMPLE[group][layer, head, :, channel].tolist()
                        norms.append(math.sqrt(sum((x - y) ** 2 for x, y in zip(v, a[-TOKENS:], strict=True))))
                    for index, expected in enumerate(softmax([-n for n in norms])):
                        assert float(weights[index][group][layer, head, 0, channel]) == pytest.approx(
                            expected, rel=1e-5
                        )


@pytest.mark.parametrize("estimator", ["l2_norm", "cosine", "nearest", "upstream"])
def test_an_empty_sample_has_weights_that_sum_to_one(estimator: str) -> None:
    """Would catch nan from 0 / 0, which would spoil the text after an empty answer."""
    empty = random_values(0, 0)
    config = KVCommConfig(estimator=estimator)  # type: ignore[arg-type]
    weights = weigh(empty, ANCHORS, measure_distances(empty, ANCHORS), config)
    total = sum(
        weights.text[index] if isinstance(weights.text[index], float) else weights.text[index][0] for index in range(3)
    )  # type: ignore[index, misc]
    torch.testing.assert_close(
        torch.as_tensor(total, dtype=torch.float32), torch.ones_like(torch.as_tensor(total, dtype=torch.float32))
    )


def test_the_mean_has_no_weights() -> None:
    """Would catch a new estimator that silently falls through to another's formula."""
    with pytest.raises(ValueError, match="estimator is 'mean'"):
        weights_of("mean")
