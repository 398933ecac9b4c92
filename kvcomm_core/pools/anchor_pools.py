"""Pools of anchors, one per placeholder.

A request reads the pools as they were when it opened and publishes its new anchors when it closes, so requests in
flight never see each other. For the ``mean`` and ``affine`` estimators a pool keeps running sums per slot instead of
every anchor's offsets.

``nbytes`` counts the bytes held, tensor by tensor. The pool also reports what the public code's layout would take for
the same anchors. That layout keeps the whole base KV of each anchor and, per slot, the key and value offsets of the
placeholder and of the text after it, all in the model's dtype:

    public layout = sum over anchors of (T + sum over its slots of (T + P)) * 2 * L * H * D * bytes per element
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from kvcomm_core.config import KVCommConfig
from kvcomm_core.kv import KV
from kvcomm_core.pools.affine_maps import AffineKV, AffineOffset
from kvcomm_core.pools.anchors import Anchor, Offset, Slot
from kvcomm_core.pools.eviction import anchor_to_evict
from kvcomm_core.pools.running_means import MeanKV, MeanOffset
from kvcomm_core.template import TokenIds

Summary = MeanOffset | AffineOffset
"""The running sums of one slot's offsets."""


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
    """A pool at one moment. Holds references, no copies."""

    anchors: tuple[Anchor, ...] = ()
    """Oldest first."""
    means: Mapping[Slot, Summary] = field(default_factory=dict)
    """With an estimator that summarises: the running sums of all offsets so far, also of evicted anchors."""

    def find(self, token_ids: TokenIds) -> tuple[Anchor, ...]:
        """Return the anchors with exactly these token ids, oldest first. There are several if samples of one batch
        or of several rounds were the same."""
        return tuple(anchor for anchor in self.anchors if anchor.token_ids == token_ids)


@dataclass(frozen=True, slots=True)
class PoolState:
    """Everything that distinguishes one pool from another of the same config. Holds references, no copies."""

    anchors: tuple[Anchor, ...]
    """Oldest first."""
    uses: tuple[float, ...]
    """For each anchor, the sum of the weights with which it was used."""
    activations: tuple[int, ...]
    """For each anchor, how often it was used, alone or with others."""
    tokens: tuple[int, ...]
    """For each anchor, its ``AnchorPool.public_layout_tokens``."""
    means: Mapping[Slot, Summary]


class AnchorPool:
    """The anchors of one placeholder id: at most ``max_anchors`` (V) of them and at most ``pool_bytes`` bytes."""

    def __init__(self, config: KVCommConfig) -> None:
        self._config = config
        self._anchors: list[Anchor] = []
        self._uses: list[float] = []
        self._activations: list[int] = []
        self._tokens: list[int] = []
        """For each anchor, the tokens of its base KV and of all its offsets, including offsets that went into the
        means."""
        self._means: dict[Slot, Summary] = {}
        self.nbytes = 0
        """Bytes of all anchors and means."""

    def __len__(self) -> int:
        return len(self._anchors)

    @property
    def public_layout_tokens(self) -> int:
        """Tokens whose keys and values the public code would hold for the anchors of this pool."""
        return sum(self._tokens)

    def snapshot(self) -> PoolSnapshot:
        """Return the pool as it is now."""
        return PoolSnapshot(tuple(self._anchors), dict(self._means))

    def state(self) -> PoolState:
        """Return the pool as it is now, with the counts that eviction uses."""
        return PoolState(
            tuple(self._anchors),
            tuple(self._uses),
            tuple(self._activations),
            tuple(self._tokens),
            dict(self._means),
        )

    def restore(self, state: PoolState) -> None:
        """Replace this pool's content with ``state``."""
        self._anchors, self._uses, self._tokens = list(state.anchors), list(state.uses), list(state.tokens)
        self._activations = list(state.activations)
        self._means = dict(state.means)
        self.nbytes = sum(a.nbytes for a in self._anchors) + sum(m.nbytes for m in self._means.values())

    def add(self, anchor: Anchor, base: KV | None = None) -> None:
        """Add the newest anchor and evict others until it fits. An anchor that would never fit is not kept.

        With an estimator that summarises, the anchor's offsets go into the running sums, and only the rest of it is
        kept. ``affine`` also reads ``base``, the sample's base KV.
        """
        means = self._means
        tokens = len(anchor) + sum(len(o.placeholder) + len(o.text) for o in anchor.offsets.values())
        if self._config.summarises:
            means = self._means | {slot: self._sums_with(slot, offset, base) for slot, offset in anchor.offsets.items()}
            anchor = replace(anchor, offsets={})
        mean_bytes = sum(mean.nbytes for mean in means.values())
        budget = self._config.pool_bytes
        if budget is not None and mean_bytes + anchor.nbytes > budget:
            return
        anchor_bytes = sum(held.nbytes for held in self._anchors)
        while len(self._anchors) == self._config.max_anchors or (
            budget is not None and mean_bytes + anchor_bytes + anchor.nbytes > budget
        ):
            anchor_bytes -= self._evict().nbytes
        self._means = means
        self._anchors.append(anchor)
        self._uses.append(0.0)
        self._activations.append(0)
        self._tokens.append(tokens)
        self.nbytes = mean_bytes + anchor_bytes + anchor.nbytes

    def count_use(self, anchor: Anchor, weight: float) -> None:
        """Count a use of ``anchor`` with its blending weight, 0 to 1. Ignore an anchor that has been evicted
        meanwhile."""
        for index, held in enumerate(self._anchors):
            if held is anchor:
                self._uses[index] += weight
                self._activations[index] += 1
                return

    def _evict(self) -> Anchor:
        victim = anchor_to_evict(self._uses, self._config.window)
        self._uses.pop(victim)
        self._activations.pop(victim)
        self._tokens.pop(victim)
        return self._anchors.pop(victim)

    def _sums_with(self, slot: Slot, offset: Offset, base: KV | None) -> Summary:
        least = self._config.min_anchors
        placeholder, text = (KV(packed.keys, packed.values) for packed in (offset.placeholder, offset.text))
        known = self._means.get(slot)
        # Every sample has the whole text, so the text's mean is always that of all samples.
        text_mean = MeanKV.of(text, 1) if known is None else known.text.updated(text, 1)
        if self._config.estimator == "affine":
            assert base is not None  # noqa: S101 - add asks for it
            maps = known.placeholder.updated(base, placeholder) if isinstance(known, AffineOffset) else None
            return AffineOffset(maps or AffineKV.of(base, placeholder), text_mean)
        mean = known.placeholder.updated(placeholder, least) if isinstance(known, MeanOffset) else None
        return MeanOffset(mean or MeanKV.of(placeholder, least), text_mean)


class AnchorPools:
    """One pool per placeholder id, created on first access."""

    def __init__(self, config: KVCommConfig) -> None:
        self._config = config
        self._pools: dict[str, AnchorPool] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._pools)

    def __getitem__(self, placeholder: str) -> AnchorPool:
        if placeholder not in self._pools:
            self._pools[placeholder] = AnchorPool(self._config)
        return self._pools[placeholder]

    @property
    def nbytes(self) -> int:
        """Bytes of all pools."""
        return sum(pool.nbytes for pool in self._pools.values())

    @property
    def nbytes_by_placeholder(self) -> dict[str, int]:
        """Bytes of each pool."""
        return {placeholder: pool.nbytes for placeholder, pool in self._pools.items()}

    def public_layout_nbytes(self, bytes_per_token: int) -> int:
        """Return the bytes that the public code's layout takes for the same anchors; ``bytes_per_token`` as in
        ``KVLayout``."""
        return bytes_per_token * sum(pool.public_layout_tokens for pool in self._pools.values())

    def snapshot(self) -> dict[str, PoolSnapshot]:
        """Return every pool as it is now."""
        return {placeholder: pool.snapshot() for placeholder, pool in self._pools.items()}

    def state(self) -> dict[str, PoolState]:
        """Return every pool as it is now, with the counts that eviction uses."""
        return {placeholder: pool.state() for placeholder, pool in self._pools.items()}

    def restore(self, states: Mapping[str, PoolState]) -> None:
        """Replace all pools with those in ``states``."""
        self._pools = {}
        for placeholder, state in states.items():
            self[placeholder].restore(state)
