"""Matching a sample with a pool: repeats, candidates and the reasons why there are none."""

import pytest
import torch

from kvcomm_core.anchors import Anchor, PoolSnapshot
from kvcomm_core.config import KVCommConfig
from kvcomm_core.kv import KV
from kvcomm_core.methods.matching import Match, Refusal, match, rule_out
from kvcomm_core.segments import BaseKV

IDS = (1, 2, 3, 4, 5)


def values(seed: int, tokens: int = 5) -> torch.Tensor:
    return torch.randn((6, 2, tokens, 4), generator=torch.Generator().manual_seed(seed))


def sample(of: torch.Tensor) -> BaseKV:
    return BaseKV(IDS[: of.shape[2]], KV((of,), (of,)), origin=0)


def pool(*anchors: tuple[tuple[int, ...], torch.Tensor]) -> PoolSnapshot:
    return PoolSnapshot(tuple(Anchor(ids, (held,), {}) for ids, held in anchors))


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
    expected = min(float((v - a.base_values[0][:, :, :5]).norm() / v.norm()) for a in anchors.anchors)
    assert found.verdict.nearest_distance == pytest.approx(expected, rel=1e-5)
