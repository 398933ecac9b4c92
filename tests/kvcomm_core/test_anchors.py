import torch
from hypothesis import given
from hypothesis import strategies as st

from kvcomm_core.anchors import Anchor, AnchorPool, AnchorPools, Offset, Slot, find_repeat
from kvcomm_core.kv import KV


def make_anchor(*token_ids: int, slots: int = 0) -> Anchor:
    def kv(tokens: int) -> KV:
        tensor = torch.zeros(2, 1, tokens, 4)
        return KV((tensor,), (tensor.clone(),))

    offsets = {Slot(str(agent), 0): Offset(kv(len(token_ids)), kv(3)) for agent in range(slots)}
    return Anchor(token_ids, kv(len(token_ids)).values, offsets)


def test_eviction_follows_the_hand_worked_example() -> None:
    """V = 4, window = 2: of the two oldest the less used goes, of equally used ones the oldest.

    Would catch evicting the least used of the whole pool, the newest, or one by insertion order alone.
    """
    pool = AnchorPool(max_anchors=4, window=2)
    a, b, c, d, e, f, g = (make_anchor(n) for n in range(7))
    for anchor in (a, b, c, d):
        assert pool.add(anchor) is None
    pool.count_use(a, 0.5)
    pool.count_use(b, 0.25)
    assert pool.add(e) is b  # a 0.5, b 0.25 | c 0, d 0 are outside the window
    assert pool.snapshot() == (a, c, d, e)
    assert pool.add(f) is c  # a 0.5, c 0
    pool.count_use(d, 0.5)
    assert pool.add(g) is a  # a 0.5, d 0.5: the oldest
    assert pool.snapshot() == (d, e, f, g)


@given(st.integers(1, 6), st.integers(1, 8), st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60))
def test_a_pool_never_exceeds_v_and_keeps_order(v: int, window: int, steps: list[tuple[bool, int]]) -> None:
    """Would catch the public code's off-by-one (V + 1 anchors), and uses that get out of step with anchors."""
    pool, added = AnchorPool(v, window), []
    for is_add, number in steps:
        if is_add:
            added.append(make_anchor(*range(number)))
            pool.add(added[-1])
        elif len(pool):
            pool.count_use(pool.snapshot()[number % len(pool)], 0.1)
        assert len(pool) <= v
    held = pool.snapshot()
    positions = [next(i for i, anchor in enumerate(added) if anchor is kept) for kept in held]
    assert positions == sorted(positions)
    assert not added or held[-1] is added[-1]


def test_a_snapshot_does_not_see_later_anchors() -> None:
    """Would catch handing out the live list: a request must see pools as they were when it opened."""
    pools = AnchorPools(3, 1)
    pools["user_question"].add(make_anchor(1))
    before = pools.snapshot()
    pools["user_question"].add(make_anchor(2))
    pools["agent_1_current"].add(make_anchor(3))
    assert {name: len(anchors) for name, anchors in before.items()} == {"user_question": 1}


def test_counting_a_use_of_an_evicted_anchor_changes_nothing() -> None:
    """Would catch crediting the anchor that took its place."""
    pool = AnchorPool(1, 1)
    gone, kept = make_anchor(1), make_anchor(2)
    pool.add(gone)
    pool.add(kept)
    pool.count_use(gone, 1.0)
    assert pool.snapshot() == (kept,)


def test_bytes_are_those_of_every_tensor() -> None:
    """Would catch counting one slot, or keys and values once."""
    anchor = make_anchor(1, 2, 3, 4, 5, slots=2)
    values = 2 * 1 * 5 * 4 * 4
    offset = 2 * (2 * 1 * 5 * 4 * 4) + 2 * (2 * 1 * 3 * 4 * 4)
    assert anchor.nbytes == values + 2 * offset
    pools = AnchorPools(3, 1)
    pools["x"].add(anchor)
    pools["y"].add(anchor)
    assert pools.nbytes == 2 * anchor.nbytes


def test_the_newest_exact_repeat_is_found() -> None:
    """Would catch taking a longer anchor with the same beginning for a repeat."""
    old, longer, new = make_anchor(1, 2), make_anchor(1, 2, 3), make_anchor(1, 2)
    assert find_repeat((old, longer, new), (1, 2)) is new
    assert find_repeat((longer,), (1, 2)) is None
