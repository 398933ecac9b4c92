"""Requests of several rounds: history, tool results, and what a session keeps of them."""

import random

import pytest
import torch
from slow_kvcomm import SlowKVComm, SlowTurn
from tiny_models import VOCABULARY, tiny_model

from kvcomm_core.config import KVCommConfig
from kvcomm_core.engine import Engine, Request
from kvcomm_core.method import Method, in_next_round
from kvcomm_core.methods.baseline_config import CacheBlendConfig
from kvcomm_core.methods.cacheblend import CacheBlend
from kvcomm_core.methods.dense import Dense
from kvcomm_core.methods.kvcomm import KVComm
from kvcomm_core.methods.naive import Naive
from kvcomm_core.methods.prefix import Prefix
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import Template, TokenIds
from kvcomm_core.turn import Turn

HEADER = (3, 4, 5)
FILLER = (9, 9)
MAX_NEW_TOKENS = 5
# Agent 1 uses a tool, whose result agent 2 reads. In the second round both see the first, agent 2 its own answer
# twice; in the third agent 1 also sees the round before that.
TEMPLATES = {
    "1": Template(((3, 4, 5, 20, 21), (22, 23)), ("user_question",)),
    "2": Template(((30,), (), (31,), (32, 33)), ("user_question", "agent_1_current", "condition_1_current")),
    "1 second": Template(((40,), (41, 42), (), (43,)), ("user_question", "agent_1_history_1", "agent_2_history_1")),
    "1 third": Template(((), (51,), (), (52,)), ("agent_2_history_2", "condition_1_history_2", "agent_2_history_1")),
    "2 later": Template(
        ((60, 61), (), (62,), (), (63,), (64,)),
        (
            "agent_1_current",
            "condition_1_current",
            "condition_1_history_1",
            "agent_2_history_1",
            "agent_2_history_1",
        ),
    ),
}
ROUNDS = (("1", "2"), ("1 second", "2 later"), ("1 third", "2 later"))


def tokens(length: int, seed: int) -> TokenIds:
    generator = random.Random(seed)
    return tuple(generator.randrange(VOCABULARY) for _ in range(length))


def engine_of(model: LoadedModel, method: Method) -> Engine:
    engine = Engine(model, method, FILLER)
    for name, template in TEMPLATES.items():
        engine.register(name, template, answers=f"agent_{name[0]}_current")
    return engine


def converse(engine: Engine, question: TokenIds, conditions: list[TokenIds]) -> list[Turn]:
    """A request of one round for each condition."""
    turns = []
    with engine.open() as request:
        request.provide("user_question", question)
        for number, (condition, (first, second)) in enumerate(zip(conditions, ROUNDS, strict=False)):
            if number:
                request.next_round()
            turns.append(request.take_turn(first, max_new_tokens=MAX_NEW_TOKENS))
            request.provide("condition_1_current", condition)
            turns.append(request.take_turn(second, max_new_tokens=MAX_NEW_TOKENS))
    return turns


def conditions_of(index: int) -> list[TokenIds]:
    return [tokens((7 * index + 3 * number) % 5, 100 * index + number) for number in range(len(ROUNDS))]


QUESTIONS = [tokens(length, seed) for seed, length in enumerate([8, 12, 12, 6, 7, 0, 9, 0, 11])]


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "rope"), [("llama", "default"), ("qwen3", "yarn")])
def test_rounds_with_history_and_tool_results_equal_the_method_written_out_slowly(model_type: str, rope: str) -> None:
    """Nine requests of three rounds. Would catch history with another KV than its answer's, samples of one round
    judged by another's verdict, offsets kept in the wrong draft, templates of one agent taken for each other, and
    pools whose order depends on anything but time."""
    model = tiny_model(model_type, rope)
    method = KVComm(model, HEADER, KVCommConfig(gamma=1.0, blend_temperature=0.3, max_anchors=50))
    engine = engine_of(model, method)
    slow = SlowKVComm(
        model,
        TEMPLATES,
        header=HEADER,
        filler=FILLER,
        blend_temperature=0.3,
        min_anchors=2,
        max_new_tokens=MAX_NEW_TOKENS,
    )
    modes = []
    for index, question in enumerate(QUESTIONS):
        conditions = conditions_of(index)
        rounds = [
            [SlowTurn(first, "1", condition), SlowTurn(second, "2")]
            for condition, (first, second) in zip(conditions, ROUNDS, strict=True)
        ]
        turns, expected = converse(engine, question, conditions), slow.request(question, rounds)
        for turn, (mode, logits, answer) in zip(turns, expected, strict=True):
            assert turn.mode == mode
            torch.testing.assert_close(turn.first_logits_V, logits, rtol=0, atol=1e-3)
            assert turn.answer_ids == answer
        modes.append([turn.mode for turn in turns])
    by_turn = list(zip(*modes, strict=True))
    assert all({"dense", "reuse"} == {*seen} for seen in by_turn[:5]), "every kind of turn must meet both"
    assert sorted(method.pools) == sorted(slow.pools)
    for placeholder in method.pools:
        held = method.pools[placeholder].snapshot().anchors
        assert [anchor.token_ids for anchor in held] == [anchor.ids for anchor in slow.pools[placeholder]]
        for anchor, reference in zip(held, slow.pools[placeholder], strict=True):
            assert {(slot.template, slot.hole) for slot in anchor.offsets} == {*reference.offsets}


@pytest.mark.parametrize(
    ("now", "then"),
    [
        ("agent_1_current", "agent_1_history_1"),
        ("condition_12_history_9", "condition_12_history_10"),
        ("user_question", "user_question"),
        ("current", "current"),
        ("agent_1_history_0", "agent_1_history_0"),  # would otherwise fall together with agent_1_current
    ],
)
def test_names_in_the_next_round(now: str, then: str) -> None:
    """Would catch history that is counted as text, and inputs that are taken for history."""
    assert in_next_round(now) == then


def test_history_is_not_computed_again(llama: LoadedModel) -> None:
    """Would catch base KV of history made by prefilling the answer alone, which is another context."""
    engine = engine_of(llama, Naive(llama, HEADER))
    request = engine.open()
    request.provide("user_question", QUESTIONS[0])
    answer = request.take_turn("1", max_new_tokens=MAX_NEW_TOKENS).answer_ids
    request.provide("condition_1_current", (8, 8))
    request.take_turn("2", max_new_tokens=MAX_NEW_TOKENS)
    before = dict(request.session.bases)  # type: ignore[attr-defined]
    request.next_round()
    after = request.session.bases  # type: ignore[attr-defined]
    assert request.values["agent_1_history_1"] == answer
    assert {*after} == {*request.values}
    assert after["agent_1_history_1"] is before["agent_1_current"]
    assert after["condition_1_history_1"] is before["condition_1_current"]
    assert after["user_question"] is before["user_question"]


def test_the_very_request_as_anchor_reproduces_dense_in_every_round(llama: LoadedModel) -> None:
    """Would catch a draft of an earlier round that a later one overwrites: the first round could not reuse it."""
    engine = engine_of(llama, KVComm(llama, HEADER, KVCommConfig()))
    runs = [converse(engine, QUESTIONS[0], conditions_of(1)[:2]) for _ in range(2)]
    dense = converse(engine_of(llama, Dense()), QUESTIONS[0], conditions_of(1)[:2])
    assert [[turn.mode for turn in turns] for turns in runs] == [["dense"] * 4, ["reuse"] * 4]
    for turns in runs:
        for turn, reference in zip(turns, dense, strict=True):
            assert turn.prompt == reference.prompt
            torch.testing.assert_close(turn.first_logits_V, reference.first_logits_V, rtol=0, atol=1e-4)


def test_the_same_answer_in_two_rounds_makes_two_anchors_and_both_are_reused(llama: LoadedModel) -> None:
    """Small models repeat themselves. Would catch the later anchor, which has met only the templates of its round,
    hiding the earlier one from those of the first."""
    method = KVComm(llama, HEADER, KVCommConfig())
    engine = engine_of(llama, method)

    def converse_with_given_answers() -> list[Turn]:
        turns = []
        with engine.open() as request:
            request.provide("user_question", QUESTIONS[0])
            for number, names in enumerate(ROUNDS[:2]):
                if number:
                    request.next_round()
                request.provide("condition_1_current", (6,))
                turns += [engine.take_turns([request], n, max_new_tokens=1, answers=[(7, 8)])[0] for n in names]
        return turns

    first, again = converse_with_given_answers(), converse_with_given_answers()
    anchors = method.pools["agent_1_current"].snapshot().anchors
    assert [anchor.token_ids for anchor in anchors] == [(7, 8), (7, 8)]
    assert [{slot.template for slot in anchor.offsets} for anchor in anchors] == [{"2"}, {"2 later"}]
    assert [turn.mode for turn in again] == ["reuse"] * 4
    for turn, reference in zip(again, first, strict=True):
        torch.testing.assert_close(turn.first_logits_V, reference.first_logits_V, rtol=0, atol=1e-4)


def test_two_anchors_of_one_request_stay_within_v_and_the_later_one_stays(llama: LoadedModel) -> None:
    """Would catch a pool that overflows, or an order of publishing that is not that of time."""
    method = KVComm(llama, HEADER, KVCommConfig(max_anchors=1, window=1))
    turns = converse(engine_of(llama, method), QUESTIONS[0], conditions_of(1)[:2])
    assert [a.token_ids for a in method.pools["agent_1_current"].snapshot().anchors] == [turns[2].answer_ids]
    assert [a.token_ids for a in method.pools["agent_1_history_1"].snapshot().anchors] == [turns[0].answer_ids]


def test_exact_methods_stay_exact_over_rounds(llama: LoadedModel) -> None:
    """Would catch a method that loses or mixes up what it knows when the round changes."""
    dense = converse(engine_of(llama, Dense()), QUESTIONS[1], conditions_of(2))
    for turn in dense:
        with torch.inference_mode():
            logits = llama.network(torch.tensor([turn.prompt.token_ids])).logits[0, -1]
        torch.testing.assert_close(turn.first_logits_V, logits, rtol=0, atol=1e-4)
    for method in (Prefix(llama), CacheBlend(llama, HEADER, CacheBlendConfig(ratio=1.0))):
        for turn, reference in zip(
            converse(engine_of(llama, method), QUESTIONS[1], conditions_of(2)), dense, strict=True
        ):
            assert turn.prompt == reference.prompt
            torch.testing.assert_close(turn.first_logits_V, reference.first_logits_V, rtol=0, atol=1e-4)


def test_an_answer_must_find_its_placeholder_free(llama: LoadedModel) -> None:
    """Would catch a second answer in one round, which would leave readers with one text and another's KV."""

    def turn_with(request: Request, name: str) -> Turn:
        return request.take_turn(name, max_new_tokens=1)

    engine = engine_of(llama, Naive(llama, HEADER))
    with engine.open() as request:
        request.provide("user_question", QUESTIONS[0])
        turn_with(request, "1")
        with pytest.raises(ValueError, match="'agent_1_current' is filled already; allowed: one answer per round"):
            turn_with(request, "1")
        request.next_round()
        turn_with(request, "1")


def test_the_newest_of_several_repeats_speaks_alone(llama: LoadedModel) -> None:
    """Two requests of one batch with the same tool result under different questions. Would catch blending anchors of
    one text whose offsets differ, where one of them is the very sample."""
    engine = engine_of(llama, KVComm(llama, HEADER, KVCommConfig()))
    with engine.open_batch(2) as requests:
        for request, question in zip(requests, QUESTIONS[:2], strict=True):
            request.provide("user_question", question)
            request.provide("condition_1_current", (6, 7))
        for name in ("1", "2"):
            turns = engine.take_turns(requests, name, max_new_tokens=1)
    with engine.open() as request:
        request.provide("user_question", QUESTIONS[1])
        request.provide("condition_1_current", (6, 7))
        again = [request.take_turn(name, max_new_tokens=1) for name in ("1", "2")][1]
    assert again.mode == "reuse"
    torch.testing.assert_close(again.first_logits_V, turns[1].first_logits_V, rtol=0, atol=1e-4)
