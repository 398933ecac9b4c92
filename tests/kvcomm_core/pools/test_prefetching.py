"""Offsets brought to the device one agent ahead: which, when, and each once."""

import pytest
import torch
from three_agents import HEADER, ask, engine_of, tokens
from tiny_models import tiny_model

from kvcomm_core.batch import Batch
from kvcomm_core.config import KVCommConfig, Placement
from kvcomm_core.kv import KV
from kvcomm_core.methods.kvcomm import KVComm
from kvcomm_core.methods.kvcomm_session import KVCommSession
from kvcomm_core.packed import PackedKV, pack
from kvcomm_core.pools.prefetching import Prefetcher

Log = list[object]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    """What is fetched, as the stored offset, and ``decode`` for each answer that begins."""
    found: Log = []
    real_fetch, real_decode, real_plan = PackedKV.fetch, Batch.decode, KVCommSession.plan

    def fetch(self: PackedKV) -> PackedKV:
        found.append(self)
        return real_fetch(self)

    monkeypatch.setattr(PackedKV, "fetch", fetch)
    monkeypatch.setattr(Batch, "decode", lambda *a, **k: (found.append("decode"), real_decode(*a, **k))[1])
    monkeypatch.setattr(KVCommSession, "plan", lambda *a, **k: (found.append("plan"), real_plan(*a, **k))[1])
    return found


def stored(seed: int) -> PackedKV:
    generator = torch.Generator().manual_seed(seed)
    keys, values = (torch.randn(2, 2, 4, 4, generator=generator) for _ in range(2))
    return pack(KV((keys,), (values,)), "int8", "host")


def test_what_is_coming_is_fetched_once(log: Log) -> None:
    """Catches a second copy of what is there, a copy that is kept although nobody wants it, and an offset that is given
    for another."""
    prefetcher, a, b = Prefetcher(), stored(0), stored(1)
    prefetcher.start([a, a])
    prefetcher.start([a, b])
    assert [id(one) for one in log] == [id(a), id(b)]
    assert torch.equal(prefetcher.take(b).keys[0], b.keys[0])
    assert torch.equal(prefetcher.take(a).keys[0], a.keys[0])
    assert len(log) == 2
    prefetcher.start([b])
    prefetcher.take(a)
    assert [id(one) for one in log] == [id(a), id(b), id(a)]


@pytest.mark.parametrize("repeats", [False, True])
def test_the_next_agent_finds_what_is_known_of_its_prompt(log: Log, repeats: bool) -> None:
    """Catches offsets that are begun too late, for the wrong agent or the wrong anchors, and answers that change. The
    second agent reads the question, whose offsets come while the first decodes, and the first one's answer, which is
    not known then."""
    answers = {}
    placements: tuple[Placement, ...] = ("device", "host")
    for placement in placements:
        model = tiny_model()
        config = KVCommConfig(estimator="l2_norm", gamma=1.0, min_anchors=2, placement=placement)
        method = KVComm(model, HEADER, config)
        engine = engine_of(model, method)
        for seed in range(4):
            ask(engine, tokens(6, seed))
        log.clear()
        turns = ask(engine, tokens(6, 0 if repeats else 99))
        answers[placement] = [(turn.mode, turn.answer_ids) for turn in turns]
    assert [mode for mode, _ in answers["host"]] == ["reuse"] * 3
    assert answers["host"] == answers["device"]
    plans = [index for index, one in enumerate(log) if one == "plan"]
    decodes = [index for index, one in enumerate(log) if one == "decode"]
    ahead = [one for one in log[plans[0] : decodes[0]] if isinstance(one, PackedKV)]
    of_first = [o for slot in [("1", 0)] for o in offsets_at(method, "user_question", slot)]
    of_second = offsets_at(method, "user_question", ("2", 0))
    later = [one for one in log[plans[1] : decodes[1]] if isinstance(one, PackedKV)]
    assert all(any(one is known for known in [*of_first, *of_second]) for one in ahead)
    assert sum(any(one is known for known in of_second) for one in ahead) == (2 if repeats else len(of_second))
    assert not any(one is known for one in later for known in of_second), "they were there already"
    assert later, "the answer's own offsets come when it is known"


def offsets_at(method: KVComm, placeholder: str, slot: tuple[str, int]) -> list[PackedKV]:
    """The stored offsets of a slot, of all anchors."""
    return [
        part
        for anchor in method.pools[placeholder].snapshot().anchors
        for at, offset in anchor.offsets.items()
        if (at.template, at.hole) == slot
        for part in (offset.placeholder, offset.text)
    ]


@pytest.mark.gpu
def test_a_gpu_reads_what_was_copied_beside() -> None:
    """Catches numbers that are read before their copy has ended, and memory that is given away too early."""
    prefetcher, device = Prefetcher(), torch.device("cuda", 0)
    for seed in range(20):
        x = torch.randn(8, 8, 2048, 64, generator=torch.Generator().manual_seed(seed))
        offset = pack(KV((x.to(device),), (2 * x.to(device),)), "model", "host")
        assert offset.keys[0].is_pinned()
        prefetcher.start([offset])
        taken = prefetcher.take(offset)
        assert float((taken.values[0] - 2 * taken.keys[0]).abs().max()) == 0.0
        assert torch.equal(taken.keys[0].cpu(), x)
