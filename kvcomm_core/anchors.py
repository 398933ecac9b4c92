"""Anchors and their pools.

An anchor is one stored sample of a placeholder: its base values, and per *slot* (a consuming agent and one of the
holes of its template) the offsets that were measured there. Anchors are immutable. A request reads pools as they
were when it opened and publishes its new anchors when it closes, so requests in flight never see each other.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from kvcomm_core.kv import KV
from kvcomm_core.template import TokenIds


@dataclass(frozen=True, slots=True)
class Slot:
    """One hole of one agent's template."""

    agent_id: str
    hole: int
    """Index of the hole, from 0."""


@dataclass(frozen=True, slots=True)
class Offset:
    """True KV under the agent's full prompt minus base KV, keys at local positions (paper, section 3.2)."""

    placeholder: KV
    """Of the T tokens of the placeholder."""
    text: KV
    """Of the P tokens of the text segment after it."""

    @property
    def nbytes(self) -> int:
        return self.placeholder.nbytes + self.text.nbytes


@dataclass(frozen=True, slots=True)
class Anchor:
    """One sample of a placeholder with its offsets."""

    token_ids: TokenIds
    base_values: tuple[Tensor, ...]
    """Values of the base KV, ``[L, H, T, D]`` per layer group: what samples are compared by. Base keys are not
    kept, nothing reads them."""
    offsets: Mapping[Slot, Offset]

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors held."""
        return sum(v.nbytes for v in self.base_values) + sum(o.nbytes for o in self.offsets.values())


class AnchorPool:
    """The anchors of one placeholder id, at most ``max_anchors`` (V) of them, oldest first."""

    def __init__(self, max_anchors: int, window: int) -> None:
        if max_anchors < 1 or window < 1:
            raise ValueError(f"max_anchors is {max_anchors}, window is {window}; allowed: 1 or more")
        self.max_anchors = max_anchors
        self.window = window
        self._anchors: list[Anchor] = []
        self._uses: list[float] = []

    def __len__(self) -> int:
        return len(self._anchors)

    @property
    def nbytes(self) -> int:
        """Bytes of all anchors."""
        return sum(anchor.nbytes for anchor in self._anchors)

    def snapshot(self) -> tuple[Anchor, ...]:
        """The anchors as they are now, oldest first. Costs references, no tensors."""
        return tuple(self._anchors)

    def add(self, anchor: Anchor) -> Anchor | None:
        """Add the newest anchor; returns the one that had to make room for it, if any.

        Of the ``window`` oldest, the least used goes; of equally used ones the oldest.
        """
        evicted = None
        if len(self._anchors) == self.max_anchors:
            candidates = range(min(self.window, len(self._anchors)))
            victim = min(candidates, key=lambda index: self._uses[index])
            evicted = self._anchors.pop(victim)
            self._uses.pop(victim)
        self._anchors.append(anchor)
        self._uses.append(0.0)
        return evicted

    def count_use(self, anchor: Anchor, weight: float) -> None:
        """Count a use of ``anchor`` with its blending weight, 0 to 1; one evicted meanwhile is passed over."""
        for index, held in enumerate(self._anchors):
            if held is anchor:
                self._uses[index] += weight
                return


class AnchorPools:
    """One pool per placeholder id, made when its first anchor arrives."""

    def __init__(self, max_anchors: int, window: int) -> None:
        self._max_anchors = max_anchors
        self._window = window
        self._pools: dict[str, AnchorPool] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._pools)

    def __getitem__(self, placeholder: str) -> AnchorPool:
        if placeholder not in self._pools:
            self._pools[placeholder] = AnchorPool(self._max_anchors, self._window)
        return self._pools[placeholder]

    @property
    def nbytes(self) -> int:
        """Bytes of all pools."""
        return sum(pool.nbytes for pool in self._pools.values())

    def snapshot(self) -> dict[str, tuple[Anchor, ...]]:
        """The anchors of every placeholder as they are now."""
        return {placeholder: pool.snapshot() for placeholder, pool in self._pools.items()}


def find_repeat(anchors: Iterable[Anchor], token_ids: TokenIds) -> Anchor | None:
    """The newest anchor with exactly these token ids, if any."""
    return next((a for a in reversed(tuple(anchors)) if a.token_ids == token_ids), None)
