import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import tiny_model

from kvcomm_core.config import Criterion, KVCommConfig
from kvcomm_core.criteria import Distances, Verdict, entropy, judge, measure_distances, measure_embeddings
from kvcomm_core.engine import Engine
from kvcomm_core.methods.kvcomm import KVComm
from kvcomm_core.pools.base_values import BaseValues
from kvcomm_core.template import Template, TokenIds


def random_values(tokens: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Two layer groups, of 2 and 1 layers."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(layers, 2, tokens, 4, generator=generator) for layers in (2, 1))


def in_full(values: tuple[torch.Tensor, ...]) -> BaseValues:
    """An anchor's values as they are, not in float16."""
    return BaseValues.of(values, compact=False)


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
    distances = measure_distances(sample, list(map(in_full, anchors)))
    assert distances.euclidean_A.tolist() == pytest.approx(euclidean, rel=1e-5)
    assert distances.relative().tolist() == pytest.approx(relative, rel=1e-5)


def test_long_samples_are_summed_exactly() -> None:
    """Would catch a float32 sum over millions of squares, which loses a thousandth of the distance."""
    generator = torch.Generator().manual_seed(0)
    sample, anchor = (torch.randn(12, 4, 1024, 64, generator=generator) for _ in range(2))
    distances = measure_distances((sample,), [in_full((anchor,))])
    assert distances.euclidean_A.item() == pytest.approx(float((sample.double() - anchor.double()).norm()), rel=1e-5)
    assert distances.norm == pytest.approx(float(sample.double().norm()), rel=1e-5)


def test_an_empty_sample_is_at_distance_zero_of_all() -> None:
    """Would catch 0 / 0 = nan, which makes every comparison false."""
    distances = measure_distances(random_values(0, 0), [in_full(random_values(tokens, 1)) for tokens in (3, 0)])
    assert distances.relative().tolist() == [0.0, 0.0]


@given(
    st.lists(st.floats(0, 3), min_size=1, max_size=8),
    st.floats(0.5, 2),
    st.floats(0.001, 1),
    st.floats(0, 1),
    st.sampled_from(["entropy_fitted", "entropy_literal", "entropy_upstream"]),
)
def test_entropy_criteria_equal_equation_5(
    euclidean: list[float], norm: float, temperature: float, gamma: float, criterion: Criterion
) -> None:
    """Would catch another base of the logarithm, |V| instead of |A|, a strict inequality, the wrong distance, and a
    score that is not what was compared with gamma."""
    scale = norm * temperature if criterion == "entropy_fitted" else 1.0
    logits = [-d / scale for d in euclidean]
    exponentials = [math.exp(logit - max(logits)) for logit in logits]
    weights = [e / sum(exponentials) for e in exponentials]
    h = -sum(w * math.log(w) for w in weights if w > 0)
    bound = gamma * math.log(len(euclidean))
    config = KVCommConfig(criterion=criterion, gamma=gamma, match_temperature=temperature)
    tested_A = torch.tensor(euclidean, dtype=torch.float64)
    values = Distances(tested_A + 5, norm) if criterion == "entropy_literal" else Distances(tested_A, norm)
    assert entropy(torch.tensor(weights, dtype=torch.float64)) == pytest.approx(h, abs=1e-9)
    verdict = judge(config, values, tested_A if criterion == "entropy_literal" else tested_A + 5)
    if abs(h - bound) > 1e-6:
        assert verdict.shareable == (h <= bound)
    ratio = h / math.log(len(euclidean)) if len(euclidean) > 1 else None
    assert verdict.entropy_ratio == (None if ratio is None else pytest.approx(ratio, abs=1e-6))
    assert verdict.entropy_ratio is None or 0.0 <= verdict.entropy_ratio <= 1.0
    assert verdict.nearest_distance == pytest.approx(min(values.euclidean_A.tolist()) / norm)


def test_edges_of_gamma() -> None:
    """Would catch uniform weights failing at gamma = 1 by rounding, or unlike samples passing at gamma = 0."""
    uniform = Distances(torch.full((20,), 1.3, dtype=torch.float64), 1.0)
    assert judge(KVCommConfig(gamma=1.0), uniform) == Verdict(True, 1.0, 1.3)
    assert not judge(KVCommConfig(gamma=0.99), uniform).shareable
    unlike = Distances(torch.tensor([1.0, 1.001], dtype=torch.float64), 1.0)
    assert not judge(KVCommConfig(gamma=0.0), unlike).shareable


@pytest.mark.parametrize("criterion", ["length", "always"])
def test_criteria_without_entropy_ask_for_nothing_more(criterion: Criterion) -> None:
    """Would catch a criterion that falls through to the entropy test, and a score that was never computed."""
    far = Distances(torch.tensor([1.5, 1.0], dtype=torch.float64), 2.0)
    config = KVCommConfig(criterion=criterion, gamma=0.0)
    assert judge(config, far) == Verdict(True, None, 0.5)
    assert judge(config, None) == Verdict(True, None, None)


@pytest.mark.parametrize("criterion", ["entropy_fitted", "entropy_literal", "entropy_upstream"])
def test_an_entropy_of_nothing_is_refused(criterion: Criterion) -> None:
    """Would catch a sample that passes, or fails, because its distances were not measured."""
    with pytest.raises(ValueError, match=f"criterion is '{criterion}'"):
        judge(KVCommConfig(criterion=criterion), None)


def test_distances_of_embeddings_equal_explicit_loops() -> None:
    """Would catch embeddings that are averaged over tokens, aligned at their ends, or squared without a root."""
    generator = torch.Generator().manual_seed(0)
    table_VE = torch.randn(9, 5, generator=generator)
    sample, anchors = (1, 2, 2), [(1, 2, 2), (2, 1, 0, 8), (8, 7, 6)]
    expected = []
    for anchor in anchors:
        total = 0.0
        for ours, theirs in zip(sample, anchor, strict=False):  # the anchor's first tokens
            for channel in range(5):
                total += (float(table_VE[ours, channel]) - float(table_VE[theirs, channel])) ** 2
        expected.append(math.sqrt(total))
    assert measure_embeddings(sample, anchors, table_VE).tolist() == pytest.approx(expected, rel=1e-5)
    assert measure_embeddings((), [(), (1,)], table_VE).tolist() == [0.0, 0.0]


def test_one_anchor_is_enough_for_the_paper() -> None:
    """Eq. 5 names no minimum: with one anchor, H = log 1 = 0. Would catch the public code's minimum of two."""
    one = torch.tensor([3.0], dtype=torch.float64)
    config = KVCommConfig(criterion="entropy_literal", gamma=0.0)
    assert judge(config, None, one) == Verdict(True, None, None)
    assert (config.fewest_candidates, KVCommConfig().fewest_candidates) == (1, 2)


def test_the_method_judges_by_token_embeddings() -> None:
    """Questions through a whole request each, against the pool worked out in loops. Would catch another table than the
    model's input embeddings, and candidates that are judged by their base values."""
    model = tiny_model()
    config = KVCommConfig(criterion="entropy_literal", gamma=0.93, max_anchors=50)
    engine = Engine(model, KVComm(model, (3, 4), config), (9, 9))
    engine.register("1", Template(((3, 4), (5, 6)), ("user_question",)))
    table_VE, rng = model.network.get_input_embeddings().weight.detach().double(), random.Random(0)
    pool: list[TokenIds] = []
    modes = []
    questions = dict.fromkeys(tuple(rng.choices(range(6), k=rng.randrange(3, 8))) for _ in range(30))
    for question in questions:  # of few tokens, so that some are much nearer than others; none twice
        distances = []
        for anchor in (anchor for anchor in pool if len(anchor) >= len(question)):
            pairs = zip(question, anchor, strict=False)
            distances.append(math.sqrt(sum(float((table_VE[a] - table_VE[b]).square().sum()) for a, b in pairs)))
        w = torch.softmax(-torch.tensor(distances, dtype=torch.float64), dim=0).tolist()
        h = -sum(one * math.log(one) for one in w)
        expected = "reuse" if distances and h <= config.gamma * math.log(len(distances)) + 1e-9 else "dense"
        with engine.open() as request:
            request.provide("user_question", question)
            modes.append(request.take_turn("1", max_new_tokens=1).mode)
        assert modes[-1] == expected
        if expected == "dense":
            pool.append(question)
    assert 6 <= modes.count("reuse") <= 25, "both verdicts must occur"
