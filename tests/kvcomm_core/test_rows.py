"""Turns side by side in rows, against the same turns alone."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import VOCABULARY, tiny_model

from kvcomm_core import rows as rows_module
from kvcomm_core import stopwatch
from kvcomm_core.config import KVCommConfig
from kvcomm_core.decode import advance_rows
from kvcomm_core.engine import Engine, Request
from kvcomm_core.kv import KV, KVBuffer
from kvcomm_core.methods.dense import Dense
from kvcomm_core.methods.kvcomm import KVComm
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.rows import Rows
from kvcomm_core.template import Template, TokenIds
from kvcomm_core.turn import Turn

HEADER = (3, 4, 5)
TEMPLATES = {
    "1": Template(((3, 4, 5, 20, 21), (22, 23)), ("user_question",)),
    "2": Template(((3, 4, 5, 30), (), (31, 32, 33)), ("user_question", "agent_1_current")),
    "3": Template(((), (41, 42), (43,), (44,)), ("agent_2_current", "user_question", "agent_2_current")),
}
NAMES = tuple(TEMPLATES)


def tokens(length: int, seed: int) -> TokenIds:
    generator = random.Random(seed)
    return tuple(generator.randrange(VOCABULARY) for _ in range(length))


@pytest.fixture(scope="module")
def llama() -> LoadedModel:
    return replace(tiny_model(), eos_ids=frozenset(range(0, VOCABULARY, 6)))


def engine_with(model: LoadedModel, config: KVCommConfig | None = None) -> Engine:
    """An engine that has answered three questions."""
    engine = Engine(model, Dense() if config is None else KVComm(model, HEADER, config), (9, 9))
    for name, template in TEMPLATES.items():
        engine.register(name, template)
    for seed, length in enumerate((8, 12, 5)):
        with engine.open() as request:
            request.provide("user_question", tokens(length, seed))
            for name in NAMES:
                request.take_turn(name, max_new_tokens=4)
    return engine


def ask(engine: Engine, question: TokenIds) -> Request:
    request = engine.open()
    request.provide("user_question", question)
    return request


def same_kv(found: KV, expected: KV) -> bool:
    pairs = zip(found.tensors, expected.tensors, strict=True)
    return all(torch.allclose(a, b, rtol=0, atol=1e-4) for a, b in pairs)


ITEM = st.tuples(st.integers(0, 14), st.integers(0, 9), st.integers(1, 9))
"""Length of the question, steps between its turns, and the maximum length of its answers."""


@pytest.mark.parametrize("config", [None, KVCommConfig(gamma=1.0)], ids=["dense", "kvcomm"])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(items=st.lists(ITEM, min_size=1, max_size=6), count=st.integers(1, 4), holding=st.integers(0, 3))
def test_turns_are_as_if_alone_whenever_they_begin(
    llama: LoadedModel, config: KVCommConfig | None, items: list[tuple[int, int, int]], count: int, holding: int
) -> None:
    """Nobody publishes. Would catch a row that reads or writes another's slots, KV lost when a gap is closed or the
    buffer grows, a turn that stops with another, and answers that miss the KV of their last token."""
    engine = engine_with(llama, config)
    rows, alone = Rows(engine, count), engine
    wanted: dict[Request, list[str]] = {}
    found: dict[Request, list[Turn]] = {}
    waits: dict[Request, int] = {}
    limits: dict[Request, int] = {}
    for seed, (length, pause, limit) in enumerate(items):
        request = ask(engine, tokens(length, 50 + seed))
        wanted[request], found[request], waits[request], limits[request] = list(NAMES), [], pause * holding, limit
    pauses = dict(waits)
    for _ in range(1000):
        if not any(wanted.values()) and all(len(turns) == 3 for turns in found.values()):
            break
        for request, names in wanted.items():
            waits[request] -= 1
            if names and rows.free and waits[request] < 0 and len(found[request]) == 3 - len(names):
                rows.begin(request, names.pop(0), max_new_tokens=limits[request], keep_kv=True)
        for request, turn in rows.step():
            found[request].append(turn)
            waits[request] = pauses[request]
    assert rows.free == count
    for (request, turns), (length, _, limit), seed in zip(found.items(), items, range(50, 60), strict=False):
        single = ask(alone, tokens(length, seed))
        for turn, name in zip(turns, NAMES, strict=True):
            [expected] = alone.take_turns([single], name, max_new_tokens=limit, keep_kv=[0])
            same = ("prompt", "answer_ids", "stop_reason", "mode", "computed", "exact_prefix_tokens")
            assert [getattr(turn, one) for one in same] == [getattr(expected, one) for one in same]
            torch.testing.assert_close(turn.first_logits_V, expected.first_logits_V, rtol=0, atol=1e-4)
            assert turn.prompt_kv is not None
            assert expected.prompt_kv is not None
            assert same_kv(turn.prompt_kv, expected.prompt_kv)
        if config is not None:
            for name, base in single.session.bases.items():
                assert same_kv(request.session.bases[name].kv, base.kv)


@pytest.mark.parametrize("config", [None, KVCommConfig(gamma=1.0)], ids=["dense", "kvcomm"])
def test_given_answers_stand_in_for_decoding(llama: LoadedModel, config: KVCommConfig | None) -> None:
    """Beside a row that decodes. Would catch an answer's KV at the wrong positions, of too few tokens, or of one that
    was decoded: readers must see what decoding would have left."""
    rows = Rows(engine_with(llama, config), 2)
    given = (tokens(6, 90), ())
    requests = [ask(rows.engine, tokens(length, 80 + length)) for length in (4, 9)]
    single = [ask(rows.engine, tokens(length, 80 + length)) for length in (4, 9)]
    beside = ask(rows.engine, tokens(11, 95))
    for answer, request, alone in zip(given, requests, single, strict=True):
        found: list[Turn] = []
        for name in NAMES:
            rows.begin(request, name, max_new_tokens=3, answer=answer if name == "1" else None)
            if f"agent_{name}_current" not in beside.values:
                rows.begin(beside, name, max_new_tokens=7)
            while rows.free < 2:
                found += [turn for of, turn in rows.step() if of is request]
        expected = [
            rows.engine.take_turns([alone], name, max_new_tokens=3, answers=[answer] if name == "1" else None)[0]
            for name in NAMES
        ]
        assert [turn.answer_ids for turn in found] == [turn.answer_ids for turn in expected]
        assert [turn.stop_reason for turn in found] == [turn.stop_reason for turn in expected]
        for turn, other in zip(found, expected, strict=True):
            torch.testing.assert_close(turn.first_logits_V, other.first_logits_V, rtol=0, atol=1e-4)
            assert turn.computed == other.computed


def test_no_row_runs_after_its_answer(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a row that waits for the longest answer, and a free row that runs with the others."""
    ran: list[int] = []

    def counted(model: LoadedModel, pending: list[TokenIds], *arguments: Any, **named: Any) -> torch.Tensor:
        ran.append(len(pending))
        return advance_rows(model, pending, *arguments, **named)

    monkeypatch.setattr(rows_module, "advance_rows", counted)
    rows = Rows(engine_with(llama), 4)
    turns: list[Turn] = []
    for seed in range(4):
        rows.begin(ask(rows.engine, tokens(7, seed + 30)), "1", max_new_tokens=(2, 9, 5, 1)[seed])
    while rows.free < 4:
        turns += [turn for _, turn in rows.step()]
    steps = [len(turn.answer_ids) + (turn.stop_reason == "eos") for turn in turns]
    assert sum(ran) == sum(steps)
    assert len(ran) == max(steps)
    assert ran == sorted(ran, reverse=True)


def test_shares_add_up_to_the_time_of_all_work(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that moves by a second whenever it is read. Would catch work that counts for no turn or for two, and
    time between the steps that counts as work."""
    now = 0

    def read() -> float:
        nonlocal now
        now += 1
        return float(now)

    monkeypatch.setattr(stopwatch, "time", type("Clock", (), {"perf_counter": staticmethod(read)}))
    rows = Rows(engine_with(llama, KVCommConfig(gamma=1.0)), 2)
    turns: list[Turn] = []
    for seed in range(6):
        if rows.free:
            rows.begin(ask(rows.engine, tokens(7 + seed, seed)), "1", max_new_tokens=4)
        turns += [turn for _, turn in rows.step()]
        now += 1000
    while rows.free < 2:
        turns += [turn for _, turn in rows.step()]
    shares = [(turn.ttft_share_s, turn.decode_share_s, turn.phases_s["store"]) for turn in turns]
    assert sum(map(sum, shares)) == pytest.approx(rows._last_s)
    for turn, (ttft_s, decode_s, _) in zip(turns, shares, strict=True):
        assert 0 < ttft_s <= turn.ttft_s < 1000
        assert 0 <= decode_s <= turn.decode_s < 1000
        inside = sum(seconds for name, seconds in turn.phases_s.items() if name != "store")
        assert 0 < inside <= turn.ttft_s


@torch.inference_mode()
def test_an_infinity_of_an_earlier_turn_stays_there() -> None:
    """Would catch KV that overflowed in float16 and lies in masked slots of a later turn, whose logits become NaN: in a
    row that is taken again, and in one into which a turn moves."""
    model = replace(tiny_model(dtype=torch.float16), eos_ids=frozenset())
    answers: list[list[tuple[int, TokenIds]]] = []
    for spoilt in (False, True):
        rows = Rows(engine_with(model), 3)
        found = []
        for _ in range(2):
            requests = [ask(rows.engine, tokens(length, length)) for length in (4, 30, 9)]
            for request, limit in zip(requests, (2, 8, 4), strict=True):  # the last row moves into the first
                rows.begin(request, "1", max_new_tokens=limit)
            while rows.free < 3:
                over = rows.step()
                found += [(requests.index(request), turn.answer_ids) for request, turn in over]
                free = range(3) if rows.free == 3 else [0] if over and over[0][0] is requests[0] else []
                for place in free if spoilt else []:
                    for tensor in rows._buffer.view(0, rows._buffer.capacity, place).tensors:
                        tensor.fill_(torch.inf)
        answers.append(found)
    assert len(answers[0]) == 6
    assert answers[1] == answers[0]


def test_the_buffer_grows_beside_turns_under_way(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long prompt begins beside a short one. Would catch KV left behind in the smaller buffer."""
    made = KVBuffer.__init__

    def noted(buffer: KVBuffer, *arguments: object) -> None:
        made(buffer, *arguments)
        sizes.append(buffer.capacity)

    sizes: list[int] = []
    engine = engine_with(llama)
    expected = [ask(engine, tokens(length, 70)).take_turn("1", max_new_tokens=9) for length in (10, 150)]
    monkeypatch.setattr(KVBuffer, "__init__", noted)
    rows = Rows(engine, 2)
    short, long = (ask(engine, tokens(length, 70)) for length in (10, 150))
    rows.begin(short, "1", max_new_tokens=9)
    found = dict(rows.step())
    rows.begin(long, "1", max_new_tokens=9)
    while rows.free < 2:
        found |= dict(rows.step())
    assert len(set(sizes)) == 3
    assert [found[request].answer_ids for request in (short, long)] == [turn.answer_ids for turn in expected]


@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (lambda rows, request: rows.begin(request, "1", max_new_tokens=0), "max_new_tokens is 0; allowed: 1 or more"),
        (lambda rows, request: Rows(rows.engine, 0), "count is 0; allowed: 1 or more"),
        (
            lambda rows, request: [rows.begin(ask(rows.engine, (1,)), "1", max_new_tokens=1) for _ in range(3)],
            "all 2 rows are taken; allowed: one turn in each",
        ),
        (
            lambda rows, request: [rows.begin(request, name, max_new_tokens=1) for name in "12"],
            "the request takes a turn already; allowed: one at a time",
        ),
        (
            lambda rows, request: [
                request.provide("agent_1_current", (1,)),
                rows.begin(request, "1", max_new_tokens=1),
            ],
            "placeholder 'agent_1_current' is filled already; allowed: one answer per round",
        ),
        (
            lambda rows, request: [rows.begin(request, "1", max_new_tokens=10_000), rows.step()],
            "allowed",
        ),
    ],
    ids=["length", "count", "full", "twice", "filled", "context"],
)
def test_misuse_is_an_error(llama: LoadedModel, misuse: Callable[..., object], message: str) -> None:
    """Would catch a turn that takes another's row, and an answer that replaces another."""
    rows = Rows(engine_with(llama), 2)
    with pytest.raises(ValueError, match=message):
        misuse(rows, ask(rows.engine, (1, 2)))
