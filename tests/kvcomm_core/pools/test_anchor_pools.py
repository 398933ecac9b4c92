import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_up_kv import make_kv

from kvcomm_core.config import KVCommConfig
from kvcomm_core.kv import KV
from kvcomm_core.packed import pack
from kvcomm_core.pools.anchor_pools import AnchorPool, AnchorPools, PoolSnapshot
from kvcomm_core.pools.anchors import Anchor, Offset, Slot
from kvcomm_core.pools.base_values import BaseValues

TEXT = 3


def make_anchor(*token_ids: int, slots: int = 0, seed: int = 0, with_keys: bool = False) -> Anchor:
    tokens = len(token_ids)
    offsets = {
        Slot(str(agent), 0): Offset(pack(make_kv(tokens, seed + agent)), pack(make_kv(TEXT, seed + agent)))
        for agent in range(slots)
    }
    base = make_kv(tokens)
    values = BaseValues.of(base.values, compact=not with_keys)
    return Anchor(token_ids, values, offsets, base.keys if with_keys else ())


def test_eviction_follows_the_hand_worked_example() -> None:
    """V = 4, window = 2: of the two oldest the less used goes, of equally used ones the oldest.

    Would catch evicting the least used of the whole pool, the newest, or one by insertion order alone.
    """
    pool = AnchorPool(KVCommConfig(max_anchors=4, window=2))
    a, b, c, d, e, f, g = (make_anchor(n) for n in range(7))
    for anchor in (a, b, c, d):
        pool.add(anchor)
    pool.count_use(a, 0.5)
    pool.count_use(b, 0.25)
    pool.add(e)  # a 0.5, b 0.25 | c 0, d 0 are outside the window
    assert pool.snapshot().anchors == (a, c, d, e)
    pool.add(f)  # a 0.5, c 0
    assert pool.snapshot().anchors == (a, d, e, f)
    pool.count_use(d, 0.5)
    pool.add(g)  # a 0.5, d 0.5: the oldest
    assert pool.snapshot().anchors == (d, e, f, g)


def test_uses_are_counted_beside_their_weights() -> None:
    """Would catch a count of weights, counts that stay with the place of an evicted anchor, and a restored pool that
    begins to count anew."""
    pool = AnchorPool(KVCommConfig(max_anchors=2, window=2))
    a, b, c = (make_anchor(number, slots=1) for number in (1, 2, 3))
    pool.add(a)
    pool.add(b)
    for anchor, weight in ((a, 0.25), (b, 0.75), (b, 1.0)):
        pool.count_use(anchor, weight)
    assert (pool.state().uses, pool.state().activations) == ((0.25, 1.75), (1, 2))
    pool.add(c)  # a goes
    restored = AnchorPool(KVCommConfig(max_anchors=2, window=2))
    restored.restore(pool.state())
    restored.count_use(c, 0.5)
    assert restored.state().anchors == (b, c)
    assert restored.state().activations == (2, 1)


steps = st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60)


@given(st.integers(1, 6), st.integers(1, 8), st.none() | st.integers(1, 3000), st.booleans(), steps)
def test_a_pool_never_exceeds_v_or_its_bytes_and_keeps_order(
    v: int, window: int, budget: int | None, mean: bool, steps: list[tuple[bool, int]]
) -> None:
    """Would catch the public code's off-by-one (V + 1 anchors), bytes that drift from what is held, and uses that
    get out of step with anchors."""
    estimator = "mean" if mean else "l2_norm"
    pool = AnchorPool(KVCommConfig(max_anchors=v, window=window, pool_bytes=budget, estimator=estimator))
    added: list[tuple[int, ...]] = []
    for is_add, number in steps:
        if is_add:
            added.append((len(added), *range(number)))
            pool.add(make_anchor(*added[-1], slots=2, seed=len(added)))
        elif len(pool):
            pool.count_use(pool.snapshot().anchors[number % len(pool)], 0.1)
        held = pool.snapshot()
        assert len(pool) == len(held.anchors) <= v
        assert pool.nbytes == sum(a.nbytes for a in held.anchors) + sum(m.nbytes for m in held.means.values())
        assert budget is None or pool.nbytes <= budget
    positions = [added.index(anchor.token_ids) for anchor in pool.snapshot().anchors]
    assert positions == sorted(positions)
    assert budget is not None or not added or positions[-1] == len(added) - 1


def test_a_snapshot_does_not_see_later_anchors() -> None:
    """Would catch handing out live state, means included: a request must see pools as they were when it opened."""
    pools = AnchorPools(KVCommConfig(max_anchors=3, window=1, estimator="mean"))
    pools["user_question"].add(make_anchor(1, slots=1))
    before = pools.snapshot()
    mean = before["user_question"].means[Slot("0", 0)].text.keys[0].clone()
    pools["user_question"].add(make_anchor(2, slots=1, seed=9))
    pools["agent_1_current"].add(make_anchor(3))
    assert {name: len(pool.anchors) for name, pool in before.items()} == {"user_question": 1}
    assert torch.equal(before["user_question"].means[Slot("0", 0)].text.keys[0], mean)
    assert not torch.equal(pools["user_question"].snapshot().means[Slot("0", 0)].text.keys[0], mean)


def test_counting_a_use_of_an_evicted_anchor_changes_nothing() -> None:
    """Would catch crediting the anchor that took its place."""
    pool = AnchorPool(KVCommConfig(max_anchors=1, window=1))
    gone, kept = make_anchor(1), make_anchor(2)
    pool.add(gone)
    pool.add(kept)
    pool.count_use(gone, 1.0)
    assert pool.snapshot().anchors == (kept,)


def test_bytes_are_those_of_every_tensor() -> None:
    """Would catch counting one slot or one layer group, or keys and values once."""
    anchor = make_anchor(1, 2, 3, 4, 5, slots=2)
    elements, squares = 3 * 1 * 5 * 4, 5 * 8
    offset = 2 * elements * 4 + 2 * (3 * 1 * TEXT * 4 * 4)
    assert anchor.nbytes == elements * 2 + squares + 2 * offset
    pools = AnchorPools(KVCommConfig())
    pools["x"].add(anchor)
    pools["y"].add(anchor)
    assert pools.nbytes == 2 * anchor.nbytes


@pytest.mark.parametrize(
    ("config", "value_bytes", "keys"),
    [
        (KVCommConfig(), 2, False),
        (KVCommConfig(estimator="upstream", placement="host"), 4, True),
        (KVCommConfig(estimator="mean"), 2, False),
        (KVCommConfig(estimator="mean", criterion="length"), 0, False),
    ],
    ids=["l2_norm", "upstream", "mean", "mean by length"],
)
def test_an_anchor_holds_what_is_compared(config: KVCommConfig, value_bytes: int, keys: bool) -> None:
    """Would catch base values or keys that are kept where nothing reads them, keys that are missing where ``upstream``
    weighs them, and float16 where a weight reads single elements."""
    base = make_kv(4)
    anchor = Anchor.of((1, 2, 3, 4), base, {}, config)
    assert [v.element_size() for v in anchor.base_values.groups] == [value_bytes] * 2 * bool(value_bytes)
    assert anchor.base_keys == (base.keys if keys else ())
    elements = base.nbytes // 2 // 4
    squares = 8 * 4 if value_bytes else 0
    assert anchor.nbytes == elements * (value_bytes + 4 * keys) + squares


@pytest.mark.parametrize("estimator", ["l2_norm", "upstream", "mean"])
def test_the_public_layout_of_the_same_anchors(estimator: str) -> None:
    """Base KV and both offsets in full, tensor by tensor, for the anchors that are still held.

    Would catch an evicted anchor counted, keys and values counted once, a slot left out, and a mean whose anchors
    count without the offsets they came with.
    """
    pools = AnchorPools(KVCommConfig(max_anchors=2, window=1, estimator=estimator))  # type: ignore[arg-type]
    lengths = ((9, 2), (4, 1), (5, 3))
    anchors = [make_anchor(*range(n), slots=slots, with_keys=estimator == "upstream") for n, slots in lengths]
    for anchor in anchors:
        pools["x"].add(anchor)
    pools["y"].add(anchors[1])
    bytes_per_token = make_kv(1).nbytes
    expected = 0
    for anchor in (*anchors[1:], anchors[1]):  # the first one has made room
        expected += make_kv(len(anchor)).nbytes
        for _ in anchor.offsets:
            expected += make_kv(len(anchor)).nbytes + make_kv(TEXT).nbytes
    assert pools.public_layout_nbytes(bytes_per_token) == expected
    assert pools.nbytes_by_placeholder == {"x": pools["x"].nbytes, "y": pools["y"].nbytes}
    # Without base keys the same offsets take less; int8 and the mean save far more.
    if estimator != "mean":
        squares = sum(anchor.base_values.squares_T.nbytes for anchor in (*anchors[1:], anchors[1]))
        assert (pools.nbytes == expected + squares) if estimator == "upstream" else (pools.nbytes < expected)


def test_how_much_mean_and_int8_save() -> None:
    """Twenty anchors of 64 tokens that two agents read. Would catch int8 that is not packed, or a mean beside all
    the offsets it stands for."""
    saved = {}
    for name, config in {
        "l2_norm": KVCommConfig(),
        "int8": KVCommConfig(storage="int8"),
        "mean": KVCommConfig(estimator="mean", criterion="length"),
    }.items():
        pools = AnchorPools(config)
        for seed in range(20):
            one = make_anchor(*range(64), slots=2, seed=seed)
            offsets = {
                slot: Offset(*(pack(KV(o.keys, o.values), config.storage) for o in (offset.placeholder, offset.text)))
                for slot, offset in one.offsets.items()
            }
            # Nothing compares samples with the mean and "length", so no values are kept with it.
            pools["x"].add(Anchor(one.token_ids, BaseValues.none() if name == "mean" else one.base_values, offsets))
        saved[name] = pools.public_layout_nbytes(make_kv(1).nbytes) / pools.nbytes
    assert 1.1 < saved["l2_norm"] < 1.3
    assert 2.3 < saved["int8"] < 4
    assert saved["mean"] > 20


def test_all_exact_repeats_are_found() -> None:
    """Would catch taking a longer anchor with the same beginning for a repeat, and losing the older of two."""
    old, longer, new = make_anchor(1, 2), make_anchor(1, 2, 3), make_anchor(1, 2)
    assert PoolSnapshot((old, longer, new)).find((1, 2)) == (old, new)
    assert PoolSnapshot((longer,)).find((1, 2)) == ()


@pytest.mark.parametrize("estimator", ["mean", "l2_norm"])
def test_a_thousand_updates_leave_memory_flat(estimator: str) -> None:
    """Would catch a pool that grows with the samples seen, or with V for the mean."""
    sizes = {}
    for v in (5, 20):
        pool = AnchorPool(KVCommConfig(max_anchors=v, estimator=estimator, criterion="length"))  # type: ignore[arg-type]
        one = make_anchor(1, 2, 3, slots=1)
        anchor = Anchor(one.token_ids, BaseValues.none(), one.offsets)
        for _ in range(500):
            pool.add(anchor)
        sizes[v] = pool.nbytes
        before = pool.nbytes
        for _ in range(500):
            pool.add(anchor)
        assert pool.nbytes == before
        assert len(pool) == v
    assert (sizes[20] == sizes[5]) == (estimator == "mean")
