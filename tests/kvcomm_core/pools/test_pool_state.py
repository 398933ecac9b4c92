"""Pools described, kept as JSON and tensors, and rebuilt: they must go on as if nothing had happened."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_kv import make_kv

from kvcomm_core.config import KVCommConfig
from kvcomm_core.kv import KV
from kvcomm_core.packed import pack
from kvcomm_core.pools.affine_maps import AffineKV
from kvcomm_core.pools.anchor_pools import AnchorPools, PoolSnapshot
from kvcomm_core.pools.anchors import Anchor, Offset, Slot
from kvcomm_core.pools.base_values import BaseValues
from kvcomm_core.pools.pool_state import describe_pools, rebuild_pools

CPU = torch.device("cpu")
TEXT = 3


def make_anchor(number: int, tokens: int, config: KVCommConfig, dtype: torch.dtype) -> Anchor:
    kv = make_kv(tokens, number, dtype)
    storage = "model" if config.summarises else config.storage
    offsets = {
        Slot(f"{agent} later", agent): Offset(
            pack(make_kv(tokens, number + agent, dtype), storage, config.placement),
            pack(make_kv(TEXT, number - agent, dtype), storage, config.placement),
        )
        for agent in range(2)
    }
    return Anchor.of((number, *range(tokens - 1))[:tokens], kv, offsets, config)


def kept(pools: AnchorPools, config: KVCommConfig) -> AnchorPools:
    """Pools of their own, by way of JSON and of copies of the tensors."""
    description, tensors = describe_pools(pools.state())
    copies = [tensor.clone() for tensor in tensors]
    rebuilt = AnchorPools(config)
    rebuilt["gone"].add(make_anchor(0, 2, config, torch.float32), make_kv(2, 0, torch.float32))
    rebuilt.restore(rebuild_pools(json.loads(json.dumps(description)), copies, [CPU, CPU], config.placement))
    return rebuilt


def content(pool: PoolSnapshot) -> list[object]:
    """Everything that can be read from a pool, bit by bit."""
    described, tensors = [], []
    for anchor in pool.anchors:
        described.append(
            (anchor.token_ids, tuple(anchor.offsets), len(anchor.base_values.groups), len(anchor.base_keys))
        )
        tensors += [*anchor.base_values.groups, anchor.base_values.squares_T, *anchor.base_keys]
        for offset in anchor.offsets.values():
            for kv in (offset.placeholder, offset.text):
                assert kv.devices == (CPU, CPU)
                tensors += [*kv.keys, *kv.values, *(kv.key_scales or ()), *(kv.value_scales or ())]
    for slot, mean in pool.means.items():
        for part in (mean.placeholder, mean.text):
            if isinstance(part, AffineKV):
                tensors += [tensor for one in (*part.keys, *part.values) for tensor in one.tensors]
                tensors.append(part.counts_T)
                continue
            described.append((slot, part.reach))
            tensors += [*part.keys, *part.values, *part.overall_keys, *part.overall_values, part.counts_T]
    return [described, [(t.dtype, t.shape, t.flatten().view(torch.uint8).tolist()) for t in tensors]]


steps = st.lists(st.tuples(st.sampled_from(["add", "use", "keep"]), st.integers(0, 9)), min_size=8, max_size=30)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "config",
    [
        KVCommConfig(max_anchors=3, window=2),
        KVCommConfig(max_anchors=3, window=2, storage="int8", placement="host"),
        KVCommConfig(max_anchors=3, window=2, estimator="upstream"),
        KVCommConfig(max_anchors=3, window=2, estimator="mean"),
        KVCommConfig(max_anchors=3, window=2, estimator="affine", criterion="always"),
        KVCommConfig(max_anchors=3, window=2, pool_bytes=2500),
    ],
    ids=["model", "int8 in host", "upstream", "mean", "affine", "budget"],
)
@settings(deadline=None, max_examples=15)
@given(steps=steps)
def test_rebuilt_pools_go_on_as_the_others(
    config: KVCommConfig, dtype: torch.dtype, steps: list[tuple[str, int]]
) -> None:
    """Would catch use counts, ages, means or bytes that are lost, rounded or begin anew: what is evicted next and what
    the means become would differ."""
    undisturbed, interrupted = AnchorPools(config), AnchorPools(config)
    for number, (step, value) in enumerate(steps):
        name = "user_question" if value % 2 else "agent_1_current"
        if step == "keep":
            interrupted = kept(interrupted, config)
        for pools in (undisturbed, interrupted):
            if step == "add":
                pools[name].add(make_anchor(number, value, config, dtype), make_kv(value, number, dtype))
            elif step == "use" and len(pools[name]):
                pools[name].count_use(pools[name].snapshot().anchors[value % len(pools[name])], 0.1 * value)
        assert interrupted.nbytes_by_placeholder == undisturbed.nbytes_by_placeholder
        assert interrupted.public_layout_nbytes(7) == undisturbed.public_layout_nbytes(7)
        for placeholder, state in undisturbed.state().items():
            restored = interrupted.state()[placeholder]
            assert (restored.uses, restored.activations) == (state.uses, state.activations)
        for placeholder, pool in undisturbed.snapshot().items():
            assert content(interrupted.snapshot()[placeholder]) == content(pool)


def test_a_tensor_of_two_pools_is_kept_once() -> None:
    """An answer of one round is history in the next, with the same base values. Would catch pools that take twice the
    memory after they were rebuilt, and a file format that refuses shared tensors."""
    config = KVCommConfig()
    values = BaseValues.of(make_kv(4, 0, torch.float32).values)
    pools = AnchorPools(config)
    for placeholder in ("agent_1_current", "agent_1_history_1"):
        pools[placeholder].add(Anchor((1, 2, 3, 4), values, {}))
    _, tensors = describe_pools(pools.state())
    assert len(tensors) == 2
    rebuilt = kept(pools, config)
    now, history = (rebuilt[name].snapshot().anchors[0] for name in pools)
    assert [a is b for a, b in zip(now.base_values.groups, history.base_values.groups, strict=True)] == [True, True]


@pytest.mark.gpu
def test_where_the_tensors_go_on_a_gpu() -> None:
    """Would catch anchors that come back outside of pinned memory, or means that come back on the host."""
    cuda = torch.device("cuda", 0)
    for config in (KVCommConfig(placement="host"), KVCommConfig(), KVCommConfig(estimator="mean", placement="host")):
        pools = AnchorPools(config)
        cpu = make_kv(4, 0, torch.bfloat16)
        kv = KV(tuple(k.to(cuda) for k in cpu.keys), tuple(v.to(cuda) for v in cpu.values))
        where = "device" if config.estimator == "mean" else config.placement
        offset = Offset(pack(kv, placement=where), pack(kv, placement=where))
        values = BaseValues.of(kv.values, on_host=config.placement == "host")
        pools["user_question"].add(Anchor((1, 2, 3, 4), values, {Slot("1", 0): offset}))
        description, tensors = describe_pools(pools.state())
        rebuilt = AnchorPools(config)
        rebuilt.restore(rebuild_pools(description, [t.cpu() for t in tensors], [cuda, cuda], config.placement))
        again = describe_pools(rebuilt.state())[1]
        assert [(t.device, t.is_pinned()) for t in again] == [(t.device, t.is_pinned()) for t in tensors]
        assert all(torch.equal(a, b) for a, b in zip(again, tensors, strict=True))
