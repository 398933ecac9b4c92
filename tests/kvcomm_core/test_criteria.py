import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvcomm_core.config import KVCommConfig
from kvcomm_core.criteria import Distances, entropy, is_shareable, measure_distances


def random_values(tokens: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Two layer groups, of 2 and 1 layers."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(layers, 2, tokens, 4, generator=generator) for layers in (2, 1))


def test_distances_equal_explicit_loops() -> None:
    """Would catch a mean over groups instead of elements, or comparing tokens beyond the sample's length."""
    sample, anchors = random_values(3, 0), [random_values(3, 1), random_values(5, 2)]
    euclidean, relative = [], []
    for anchor in anchors:
        difference = total = 0.0
        for v, a in zip(sample, anchor, strict=True):
            for layer in range(v.shape[0]):
                for head in range(v.shape[1]):
                    for token in range(v.shape[2]):
                        for channel in range(v.shape[3]):
                            x, y = float(v[layer, head, token, channel]), float(a[layer, head, token, channel])
                            difference += (x - y) ** 2
                            total += x**2
        euclidean.append(math.sqrt(difference))
        relative.append(math.sqrt(difference / total))
    distances = measure_distances(sample, anchors)
    assert distances.euclidean_A.tolist() == pytest.approx(euclidean, rel=1e-5)
    assert distances.relative().tolist() == pytest.approx(relative, rel=1e-5)


def test_long_samples_are_summed_exactly() -> None:
    """Would catch a float32 sum over millions of squares, which loses a thousandth of the distance."""
    generator = torch.Generator().manual_seed(0)
    sample, anchor = (torch.randn(12, 4, 1024, 64, generator=generator) for _ in range(2))
    distances = measure_distances((sample,), [(anchor,)])
    assert distances.euclidean_A.item() == pytest.approx(float((sample.double() - anchor.double()).norm()), rel=1e-5)
    assert distances.norm == pytest.approx(float(sample.double().norm()), rel=1e-5)


def test_an_empty_sample_is_at_distance_zero_of_all() -> None:
    """Would catch 0 / 0 = nan, which makes every comparison false."""
    distances = measure_distances(random_values(0, 0), [random_values(3, 1), random_values(0, 2)])
    assert distances.relative().tolist() == [0.0, 0.0]


@given(
    st.lists(st.floats(0, 3), min_size=1, max_size=8),
    st.floats(0.5, 2),
    st.floats(0.001, 1),
    st.floats(0, 1),
    st.sampled_from(["entropy_fitted", "entropy_upstream"]),
)
def test_entropy_criteria_equal_equation_5(
    euclidean: list[float], norm: float, temperature: float, gamma: float, criterion: str
) -> None:
    """Would catch another base of the logarithm, |V| instead of |A|, a strict inequality, or the wrong distance."""
    scale = norm * temperature if criterion == "entropy_fitted" else 1.0
    logits = [-d / scale for d in euclidean]
    exponentials = [math.exp(logit - max(logits)) for logit in logits]
    weights = [e / sum(exponentials) for e in exponentials]
    h = -sum(w * math.log(w) for w in weights if w > 0)
    bound = gamma * math.log(len(euclidean))
    config = KVCommConfig(criterion=criterion, gamma=gamma, match_temperature=temperature)  # type: ignore[arg-type]
    distances = Distances(torch.tensor(euclidean, dtype=torch.float64), norm)
    assert entropy(torch.tensor(weights, dtype=torch.float64)) == pytest.approx(h, abs=1e-9)
    if abs(h - bound) > 1e-6:
        assert is_shareable(distances, config) == (h <= bound)


def test_edges_of_gamma() -> None:
    """Would catch uniform weights failing at gamma = 1 by rounding, or unlike samples passing at gamma = 0."""
    uniform = Distances(torch.full((20,), 1.3, dtype=torch.float64), 1.0)
    assert is_shareable(uniform, KVCommConfig(gamma=1.0))
    assert not is_shareable(uniform, KVCommConfig(gamma=0.99))
    unlike = Distances(torch.tensor([1.0, 1.001], dtype=torch.float64), 1.0)
    assert not is_shareable(unlike, KVCommConfig(gamma=0.0))


@pytest.mark.parametrize("criterion", ["length", "always"])
def test_criteria_without_entropy_ask_for_nothing_more(criterion: str) -> None:
    """Would catch a criterion that falls through to the entropy test."""
    far = Distances(torch.tensor([1.0, 1.0], dtype=torch.float64), 1.0)
    assert is_shareable(far, KVCommConfig(criterion=criterion, gamma=0.0))  # type: ignore[arg-type]
