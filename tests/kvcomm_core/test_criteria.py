import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvcomm_core.criteria import entropy, entropy_paper, relative_distances, weights_from_distances


def random_values(tokens: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Two layer groups, of 2 and 1 layers."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(layers, 2, tokens, 4, generator=generator) for layers in (2, 1))


def test_relative_distances_equal_explicit_loops() -> None:
    """Would catch a mean over groups instead of elements, or comparing tokens beyond the sample's length."""
    sample, anchors = random_values(3, 0), [random_values(3, 1), random_values(5, 2)]
    expected = []
    for anchor in anchors:
        difference = total = 0.0
        for v, a in zip(sample, anchor, strict=True):
            for layer in range(v.shape[0]):
                for head in range(v.shape[1]):
                    for token in range(v.shape[2]):
                        for channel in range(v.shape[3]):
                            x, y = (
                                float(v[layer, head, token, channel]),
                                float(a[layer, head, token, channel]),
                            )
                            difference += (x - y) ** 2
                            total += x**2
        expected.append(math.sqrt(difference / total))
    assert relative_distances(sample, anchors).tolist() == pytest.approx(expected, rel=1e-5)


def test_an_empty_sample_is_at_distance_zero_of_all() -> None:
    """Would catch 0 / 0 = nan, which makes every comparison false."""
    assert relative_distances(random_values(0, 0), [random_values(3, 1), random_values(0, 2)]).tolist() == [
        0.0,
        0.0,
    ]


@given(st.lists(st.floats(0, 3), min_size=1, max_size=8), st.floats(0.001, 1), st.floats(0, 1))
def test_entropy_paper_equals_equation_5(distances: list[float], temperature: float, gamma: float) -> None:
    """Would catch another base of the logarithm, |V| instead of |A|, or a strict inequality."""
    scaled = [-d / temperature for d in distances]
    exponentials = [math.exp(s - max(scaled)) for s in scaled]
    weights = [e / sum(exponentials) for e in exponentials]
    h = -sum(w * math.log(w) for w in weights if w > 0)
    bound = gamma * math.log(len(distances))
    distances_A = torch.tensor(distances, dtype=torch.float64)
    assert weights_from_distances(distances_A, temperature).tolist() == pytest.approx(weights)
    assert entropy(weights_from_distances(distances_A, temperature)) == pytest.approx(h, abs=1e-9)
    if abs(h - bound) > 1e-6:
        assert entropy_paper(distances_A, gamma=gamma, temperature=temperature) == (h <= bound)


def test_edges_of_gamma() -> None:
    """Would catch uniform weights failing at gamma = 1 by rounding, or unlike samples passing at gamma = 0."""
    uniform = torch.full((20,), 1.3, dtype=torch.float64)
    assert entropy_paper(uniform, gamma=1.0, temperature=0.005)
    assert not entropy_paper(uniform, gamma=0.99, temperature=0.005)
    assert not entropy_paper(torch.tensor([1.0, 1.001], dtype=torch.float64), gamma=0.0, temperature=0.005)
