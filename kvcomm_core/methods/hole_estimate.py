"""Estimate the offsets of one hole and of the text after it from the anchors that its sample matches.

    offset = sum_psi w_psi * offset_psi          (paper, Eq. 6 for the placeholder, Eq. 7 for the text)

``estimators`` gives w. ``blending`` adds the terms of the sum to the base KV.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kvcomm_core.blending import Term
from kvcomm_core.config import KVCommConfig
from kvcomm_core.criteria import Distances
from kvcomm_core.estimators import Weights, weigh
from kvcomm_core.methods.matching import Match
from kvcomm_core.packed import PackedKV
from kvcomm_core.pools.affine_maps import AffineOffset
from kvcomm_core.pools.anchor_pools import PoolSnapshot
from kvcomm_core.pools.anchors import Anchor, Slot
from kvcomm_core.pools.prefetching import Prefetcher
from kvcomm_core.segments import BaseKV


@dataclass(frozen=True, slots=True)
class HoleEstimate:
    """The offset terms of one hole of a turn, and of the text after it."""

    placeholder: list[Term]
    text: list[Term]
    uses: list[tuple[Anchor, float]]
    """Anchors that count as used, with their weights."""

    def fetch(self, prefetcher: Prefetcher | None = None) -> "HoleEstimate":
        """Return the same with its offsets on the devices where they are needed, those of ``prefetcher`` if it has
        them."""

        def fetched(term: Term) -> Term:
            if prefetcher is not None and isinstance(term.offset, PackedKV):
                return Term(prefetcher.take(term.offset), term.weight)
            return Term(term.offset.fetch(), term.weight)

        return HoleEstimate(list(map(fetched, self.placeholder)), list(map(fetched, self.text)), self.uses)


def meets(slot: Slot, anchors: Sequence[Anchor], pool: PoolSnapshot, config: KVCommConfig) -> bool:
    """Return whether an offset was measured in this slot: for one of ``anchors``, or in the pool's running sums."""
    return slot in pool.means if config.summarises else any(slot in anchor.offsets for anchor in anchors)


def samples_met(slot: Slot, anchors: Sequence[Anchor], pool: PoolSnapshot, config: KVCommConfig) -> int:
    """Return from how many samples the offset of this slot is estimated."""
    return pool.means[slot].samples if config.summarises else sum(slot in anchor.offsets for anchor in anchors)


def longest_met(slot: Slot, anchors: Sequence[Anchor], pool: PoolSnapshot, config: KVCommConfig) -> int:
    """Return the tokens of the longest of these samples."""
    if config.summarises:
        return len(pool.means[slot].placeholder.counts_T)
    return max((len(anchor) for anchor in anchors if slot in anchor.offsets), default=0)


def offsets_read(slot: Slot, found: Match) -> list[PackedKV]:
    """Return the stored offsets from which a hole and the text after it are estimated, with an estimator that has
    weights."""
    having = [anchor.offsets[slot] for anchor in found.anchors if slot in anchor.offsets]
    return [part for offset in (having[-1:] if found.repeat else having) for part in (offset.placeholder, offset.text)]


def estimate_hole(slot: Slot, found: Match, base: BaseKV, pool: PoolSnapshot, config: KVCommConfig) -> HoleEstimate:
    """Return the terms of a hole's offset, which some of the matched anchors, or the running sums, have
    met."""
    if config.summarises:
        known = pool.means[slot]
        uses = [(anchor, 1.0) for anchor in found.anchors]
        placeholder = known.placeholder.at(base.kv) if isinstance(known, AffineOffset) else known.placeholder
        return HoleEstimate([Term(placeholder, 1.0)], [Term(known.text, 1.0)], uses)
    having = [index for index, anchor in enumerate(found.anchors) if slot in anchor.offsets]
    having = having[-1:] if found.repeat else having
    anchors = [found.anchors[index] for index in having]
    if len(anchors) == 1:
        weights = Weights([1.0], [1.0])
    else:
        distances = Distances(found.distances.euclidean_A[having], found.distances.norm)
        weights = weigh(base.kv, anchors, distances, config)
    offsets = [anchor.offsets[slot] for anchor in anchors]
    return HoleEstimate(
        [Term(o.placeholder, w) for o, w in zip(offsets, weights.placeholder, strict=True)],
        [Term(o.text, w) for o, w in zip(offsets, weights.text, strict=True)],
        [
            # Weights that differ from element to element count as equal shares.
            (anchor, weight if isinstance(weight, float) else 1.0 / len(anchors))
            for anchor, weight in zip(anchors, weights.placeholder, strict=True)
        ],
    )
