"""Eviction: which anchor leaves a full pool.

A pool is full at ``max_anchors`` anchors (V in the paper) or at ``pool_bytes`` bytes. The least used of its ``window``
oldest anchors leaves; among equally used ones it is the oldest. So an anchor that is often used stays however old it
is, and a new anchor has the time to be used.
"""

from collections.abc import Sequence


def anchor_to_evict(uses: Sequence[float], window: int) -> int:
    """Return the index of the anchor to drop. ``uses`` holds for each anchor, oldest first, the sum of the weights
    with which it was used; it must not be empty."""
    return min(range(min(window, len(uses))), key=uses.__getitem__)
