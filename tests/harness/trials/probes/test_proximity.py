"""The ``proximity`` probe: pairs, distances and rank correlations against loops and scipy."""

import math
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from tiny_models import tiny_chat_model

from harness.spec import TrialSpec
from harness.trials.probes.proximity import draw_pairs, pair_distances, spearman
from harness.trials.runner import run_trial
from harness.workloads.probes import ProximitySpec

SPEC = TrialSpec(workload=ProximitySpec(limit=3, tokens=60, pairs=12))


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=20))
def test_rank_correlation_is_scipys(pairs: list[tuple[int, int]]) -> None:
    """Would catch ties that are ranked by their order, and a constant that correlates with anything."""
    a, b = (torch.tensor(values, dtype=torch.float64) for values in zip(*pairs, strict=True))
    got = spearman(a, b)
    if len(set(a.tolist())) == 1 or len(set(b.tolist())) == 1:
        assert got is None
    else:
        assert got == pytest.approx(spearmanr(a.numpy(), b.numpy()).statistic, abs=1e-9)


def test_pairs_are_where_their_bins_are() -> None:
    """Would catch distances of other pairs, a token paired with itself, pairs drawn twice and bins that overlap."""
    embeddings = torch.randn(30, 4, generator=torch.Generator().manual_seed(1))
    everything = sorted(
        math.dist(embeddings[i].tolist(), embeddings[j].tolist()) for i in range(30) for j in range(i + 1, 30)
    )
    drawn = draw_pairs(embeddings, 36, random.Random(0))
    assert {name: len(pairs) for name, (pairs, _) in drawn.items()} == {"near": 12, "mid": 12, "far": 12, "random": 36}
    for pairs, distances in drawn.values():
        assert len({tuple(sorted(pair)) for pair in pairs.tolist()}) == len(pairs)
        for (i, j), distance in zip(pairs.tolist(), distances.tolist(), strict=True):
            assert i != j
            assert distance == pytest.approx(math.dist(embeddings[i].tolist(), embeddings[j].tolist()), rel=1e-5)
    # 12 of 435 pairs are more than 1 %, so each band is just the pairs wanted.
    assert sorted(drawn["near"][1].tolist()) == pytest.approx(everything[:12], rel=1e-5)
    assert sorted(drawn["mid"][1].tolist()) == pytest.approx(everything[211:223], rel=1e-5)
    assert sorted(drawn["far"][1].tolist()) == pytest.approx(everything[-12:], rel=1e-5)
    again = draw_pairs(embeddings, 36, random.Random(0))
    assert all(torch.equal(again[name][0], pairs) for name, (pairs, _) in drawn.items())
    with pytest.raises(ValueError, match=r"workload\.pairs is 36; allowed: at most 28, the pairs of 8 tokens"):
        draw_pairs(embeddings[:8], 36, random.Random(0))


def test_distances_are_relative_to_the_layer() -> None:
    """Would catch one scale for all layers, and the norm of a mean instead of a mean of norms."""
    vectors = (
        torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(2)) * torch.tensor([1.0, 50.0])[:, None, None]
    )
    pairs = torch.tensor([[0, 1], [4, 2]])
    got = pair_distances(vectors, pairs)
    for layer in range(2):
        scale = sum(math.hypot(*vector) for vector in vectors[layer].tolist()) / 5
        for index, (i, j) in enumerate(pairs.tolist()):
            expected = math.dist(vectors[layer, i].tolist(), vectors[layer, j].tolist()) / scale
            assert got[layer, index] == pytest.approx(expected, rel=1e-5)


def test_a_trial() -> None:
    """Would catch a correlation of rounding errors at layer 0, bins mixed up, a count of pairs that is not theirs, and
    near pairs that are not near."""
    model = tiny_chat_model()
    result = run_trial(SPEC, model)
    assert result.trial.error is None
    found = {(r.part, r.measure, r.layer, r.bin, r.statistic): r for r in result.kv_statistics}
    assert len(found) == len(result.kv_statistics) == 4 * 2 + 2 * 2 * 2 * (4 * 2 + 2)
    unknown = {key for key, row in found.items() if row.value is None}
    assert unknown == {key for key in found if key[1] == "offset_distance" and key[2] == 0}
    assert {bin_: found["keys", "distance", 1, bin_, "mean"].n for bin_ in ("near", "mid", "far", "random")} == {
        "near": 4, "mid": 4, "far": 4, "random": 12,
    }  # fmt: skip
    assert found["values", "distance", 1, None, "spearman"].n == 12
    near, mid, far = (found[None, "embedding_distance", None, b, "mean"].value for b in ("near", "mid", "far"))
    assert near is not None
    assert mid is not None
    assert far is not None
    assert near < mid < far
    # In layer 0, values are a linear map of normalised embeddings: near tokens have near values.
    correlation = found["values", "distance", 0, None, "spearman"].value
    assert correlation is not None
    assert correlation > 0.3
    again = run_trial(SPEC, model).kv_statistics
    assert [row.value for row in again] == [row.value for row in result.kv_statistics]
    other = run_trial(replace(SPEC, seed=1), model).kv_statistics
    assert [row.value for row in other] != [row.value for row in result.kv_statistics]


@pytest.mark.parametrize("pairs", [0, 9, 13])
def test_pairs_come_in_thirds(pairs: int) -> None:
    """Would catch bins of unequal size, and a correlation of too few pairs for an interval."""
    with pytest.raises(ValueError, match=f"workload.pairs is {pairs}; allowed: a multiple of 3, 12 or more"):
        ProximitySpec(pairs=pairs)
