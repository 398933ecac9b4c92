"""Match a sample of a placeholder with the anchors of its pool, or say why it must become an anchor itself.

A sample is one content of one placeholder. It matches an exact repeat of itself, else all candidate anchors once the
criterion accepts them (``criteria``; paper, Eq. 5).

An exact repeat has the same token ids *and* the same base KV. A question has the same base KV whenever it is asked. An
answer with the same tokens under another question has another base KV, since its agent decoded it in another context,
and is no repeat. With the ``mean`` and ``affine`` estimators there are no repeats: what is estimated from all samples
is not the sample's own offset.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kvcomm_core.config import KVCommConfig, NoReuseReason
from kvcomm_core.criteria import Distances, Verdict, judge, measure_distances, measure_embeddings
from kvcomm_core.pools.anchor_pools import PoolSnapshot
from kvcomm_core.pools.anchors import Anchor
from kvcomm_core.segments import BaseKV
from kvcomm_core.template import TokenIds

SAME_BASE = 0.05
"""Largest relative distance of base values that are the same but for rounding. On SmolLM2-135M, a question alone and in
a batch are 6e-7 apart in float32 and 0.010 in bfloat16; the float16 in which anchors hold them adds 2e-4. One answer
under two near questions is 0.17 apart."""


@dataclass(frozen=True, slots=True)
class Match:
    """The anchors from which a shareable sample is estimated, oldest first, and its distances to them."""

    anchors: tuple[Anchor, ...]
    distances: Distances
    verdict: Verdict
    repeat: bool = False
    """The anchors are the very sample. Only the newest one that has an offset for a slot is used there."""


UNTESTED = Verdict(False, None, None)
"""The verdict on a sample that the criterion was not asked about."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a sample matches no anchors."""

    reason: NoReuseReason
    verdict: Verdict = UNTESTED


def rule_out(token_ids: TokenIds, pool: PoolSnapshot, config: KVCommConfig) -> Refusal | None:
    """Return why a sample cannot match, whatever its KV, or None if it may."""
    if _repeats(token_ids, pool, config):
        return None
    return _too_few(_candidates(token_ids, pool, config), pool, config)


def match(
    base: BaseKV, pool: PoolSnapshot, config: KVCommConfig, embeddings_VE: Tensor | None = None
) -> Match | Refusal:
    """Return the anchors with which a sample is shareable, or why there are none. ``embeddings_VE`` is the model's
    table of token embeddings, which ``entropy_literal`` needs."""
    repeats = [
        anchor
        for anchor in _repeats(base.token_ids, pool, config)
        if float(measure_distances(base.kv.values, [anchor.base_values]).relative()) <= SAME_BASE
    ]
    if repeats:
        return Match(tuple(repeats), _zero(len(repeats)), Verdict(True, None, 0.0), repeat=True)
    candidates = _candidates(base.token_ids, pool, config)
    if refusal := _too_few(candidates, pool, config):
        return refusal
    distances = embeddings_A = None
    if config.compares_samples:
        distances = measure_distances(base.kv.values, [anchor.base_values for anchor in candidates])
    if config.criterion == "entropy_literal" and embeddings_VE is not None:
        embeddings_A = measure_embeddings(base.token_ids, [anchor.token_ids for anchor in candidates], embeddings_VE)
    verdict = judge(config, distances, embeddings_A)
    if not verdict.shareable:
        return Refusal("refused", verdict)
    if distances is None:
        return Match(candidates, _zero(len(candidates)), verdict)
    if config.top_k is not None and config.top_k < len(candidates):
        nearest_K = distances.euclidean_A.topk(config.top_k, largest=False).indices
        candidates = tuple(candidates[index] for index in nearest_K.tolist())
        distances = Distances(distances.euclidean_A[nearest_K], distances.norm)
    return Match(candidates, distances, verdict)


def _repeats(token_ids: TokenIds, pool: PoolSnapshot, config: KVCommConfig) -> tuple[Anchor, ...]:
    return () if config.summarises else pool.find(token_ids)


def _candidates(token_ids: TokenIds, pool: PoolSnapshot, config: KVCommConfig) -> tuple[Anchor, ...]:
    """Return the anchors that are long enough; with a criterion and an estimator that reach any length, all."""
    if config.takes_any_sample and config.summarises:
        return pool.anchors
    return tuple(anchor for anchor in pool.anchors if len(anchor) >= len(token_ids))


def _too_few(candidates: Sequence[Anchor], pool: PoolSnapshot, config: KVCommConfig) -> Refusal | None:
    if len(candidates) >= config.fewest_candidates:
        return None
    return Refusal("cold" if len(pool.anchors) < config.fewest_candidates else "too_long")


def _zero(anchors: int) -> Distances:
    return Distances(torch.zeros(anchors, dtype=torch.float64), norm=0.0)
