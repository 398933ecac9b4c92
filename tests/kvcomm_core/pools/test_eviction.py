"""Eviction beside a slow reference."""

from hypothesis import given
from hypothesis import strategies as st

from kvcomm_core.pools.eviction import anchor_to_evict


@given(st.lists(st.integers(0, 3).map(float), min_size=1, max_size=8), st.integers(1, 9))
def test_the_least_used_of_the_oldest_leaves(uses: list[float], window: int) -> None:
    """Catches a younger anchor that leaves before an older one as little used, and one beyond the window."""
    victim = anchor_to_evict(uses, window)
    oldest = uses[:window]
    assert victim < len(oldest)
    assert uses[victim] == sorted(oldest)[0]
    assert all(other > uses[victim] for other in oldest[:victim])
