"""Matching a sample with a pool: repeats, candidates and the reasons why there are none."""

from dataclasses import replace

import pytest
import torch

from kvcomm_core.config import KVCommConfig
from kvcomm_core.kv import KV
from kvcomm_core.methods.matching import Match, Refusal, match, rule_out
from kvcomm_core.pools.anchor_pools import PoolSnapshot
from kvcomm_core.pools.anchors import Anchor
from kvcomm_core.pools.base_values import BaseValues
from kvcomm_core.segments import BaseKV

IDS = (1, 2, 3, 4, 5)


def values(seed: int, tokens: int = 5) -> torch.Tensor:
    return torch.randn((6, 2, tokens, 4), generator=torch.Generator().manual_seed(seed))


def sample(of: torch.Tensor) -> BaseKV:
    return BaseKV(IDS[: of.shape[2]], KV((of,), (of,)), origin=0)


def pool(*anchors: tuple[tuple[int, ...], torch.Tensor]) -> PoolSnapshot:
    return PoolSnapshot(tuple(Anchor(ids, BaseValues.of((held,)), {}) for ids, held in anchors))


def test_a_repeat_has_the_same_tokens_and_the_same_base_kv() -> None:
    """An answer with the same tokens under another question has another base KV. Would catch a repeat that is one by
    its tokens alone, and one that rounding hides."""
    other_question = pool((IDS, values(1)))
    found = match(sample(values(0)), other_question, KVCommConfig())
    assert isinstance(found, Refusal)
    assert found.reason == "cold"
    rounded = pool((IDS, values(1)), (IDS, values(0) * (1 + 1e-4)))
    found = match(sample(values(0)), rounded, KVCommConfig())
    assert isinstance(found, Match)
    assert (found.repeat, found.anchors) == (True, rounded.anchors[1:])


def test_the_mean_knows_no_repeat() -> None:
    """Would catch one sample taken for enough, since the mean of a pool is not the sample's own offset."""
    found = match(sample(values(0)), pool((IDS, values(0))), KVCommConfig(estimator="mean"))
    assert isinstance(found, Refusal)
    assert found.reason == "cold"


@pytest.mark.parametrize(
    ("lengths", "reason"), [([], "cold"), ([9], "cold"), ([9, 4], "too_long"), ([4, 4, 4], "too_long"), ([5, 9], None)]
)
def test_a_sample_is_ruled_out_by_length_alone(lengths: list[int], reason: str | None) -> None:
    """Would catch a cold pool called too short, and a sample ruled out that the criterion might accept."""
    anchors = pool(*(((length,) * length, values(length, length)) for length in lengths))
    ruled_out = rule_out(IDS, anchors, KVCommConfig(gamma=1.0))
    assert (ruled_out and ruled_out.reason) == reason
    found = match(sample(values(0)), anchors, KVCommConfig(gamma=1.0))
    assert isinstance(found, Match) if reason is None else found == ruled_out


def test_a_possible_repeat_is_not_ruled_out() -> None:
    """Would catch a repeat that never reaches the comparison of its base KV."""
    assert rule_out(IDS, pool((IDS, values(0))), KVCommConfig()) is None
    assert rule_out(IDS, pool((IDS, values(0))), KVCommConfig(estimator="mean")) is not None


def test_the_nearest_distance_is_relative_to_the_sample() -> None:
    """Would catch the distance of another candidate, and one that grows with the length."""
    anchors = pool(((7,) * 5, values(1)), ((8,) * 6, values(2, 6)))
    found = match(sample(values(0)), anchors, KVCommConfig(gamma=1.0))
    v = values(0)
    expected = min(float((v - a.base_values.groups[0][:, :, :5]).norm() / v.norm()) for a in anchors.anchors)
    assert found.verdict.nearest_distance == pytest.approx(expected, rel=1e-5)


def test_the_entropy_ratio_is_recorded_of_accepted_and_refused_samples() -> None:
    """Would catch a score that only one of the two verdicts keeps, and one that is not compared with gamma."""
    anchors = pool(((7,) * 5, values(1)), ((8,) * 6, values(2, 6)), ((9,) * 5, values(3)))
    ratio = match(sample(values(0)), anchors, KVCommConfig(gamma=1.0)).verdict.entropy_ratio
    assert ratio is not None
    assert 0.0 < ratio < 1.0
    refused = match(sample(values(0)), anchors, KVCommConfig(gamma=ratio - 1e-6))
    accepted = match(sample(values(0)), anchors, KVCommConfig(gamma=ratio + 1e-6))
    assert (type(refused), type(accepted)) == (Refusal, Match)
    assert refused.verdict == replace(accepted.verdict, shareable=False)


def test_the_literal_criterion_compares_token_embeddings() -> None:
    """With the mean it needs no base values, and one anchor is not cold. Would catch values that are asked for, and a
    distance that stands for one nobody measured."""
    table_VE = torch.randn((10, 4), generator=torch.Generator().manual_seed(0)) * 9  # one near anchor outweighs all
    config = KVCommConfig(criterion="entropy_literal", estimator="mean", gamma=0.01)
    anchors = PoolSnapshot(tuple(Anchor(ids, BaseValues.none(), {}) for ids in ((1, 2, 3, 4, 6), (9, 8, 7, 6, 5, 4))))
    found = match(sample(values(0)), anchors, config, table_VE)
    assert isinstance(found, Match)
    assert found.verdict.nearest_distance is None
    assert found.verdict.entropy_ratio == pytest.approx(0.0, abs=0.01)
    one = PoolSnapshot(anchors.anchors[:1])
    assert isinstance(match(sample(values(0)), one, config, table_VE), Match)
    assert rule_out(IDS, one, config) is None
