"""``prefix`` as the baseline that a server's prefix cache is."""

import torch
from three_agents import FILLER, MAX_NEW_TOKENS, tokens
from tiny_models import tiny_model

from kvcomm_core.engine import Engine
from kvcomm_core.method import Method
from kvcomm_core.methods.dense import Dense
from kvcomm_core.methods.prefix import Prefix
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import Template, TokenIds
from kvcomm_core.turn import Turn

MODEL = tiny_model()
# Agent 2 reads with an empty text between adjacent holes, agent 3 has no leading text, agent 4 nothing else.
TEMPLATES = {
    "1": Template(((3, 4, 5, 20, 21), (22, 23)), ("user_question",)),
    "2": Template(((3, 4, 5, 30), (), (31, 32, 33)), ("user_question", "agent_1_current")),
    "3": Template(((), (41, 42), (44,)), ("agent_2_current", "user_question")),
    "4": Template(((40, 41, 42),), ()),
}


def ask(model: LoadedModel, method: Method, question: TokenIds) -> list[Turn]:
    engine = Engine(model, method, filler_ids=(9, 9))
    for name, template in TEMPLATES.items():
        engine.register(name, template)
    with engine.open() as request:
        request.provide("user_question", question)
        return [request.take_turn(name, max_new_tokens=5) for name in TEMPLATES]


def test_prefix_is_exact_and_reuses_the_leading_text(llama: LoadedModel) -> None:
    """Would catch reusing a text that stands after a hole, positions that start over after the prefix, and exact text
    that counts as estimated."""
    for question in ((50, 51, 52, 53, 54, 55), (), (7, 8, 9)):
        turns = ask(llama, Prefix(llama), question)
        for turn, dense in zip(turns, ask(llama, Dense(), question), strict=True):
            assert turn.prompt == dense.prompt
            assert turn.answer_ids == dense.answer_ids
            torch.testing.assert_close(turn.first_logits_V, dense.first_logits_V, rtol=0, atol=1e-4)
        assert [turn.plan.reused_text_tokens for turn in turns] == [5, 4, 0, 2]
        assert [turn.mode for turn in turns] == ["partial", "partial", "dense", "partial"]
        assert {(turn.plan.recomputed_tokens, turn.plan.estimated_tokens) for turn in turns} == {(0.0, 0)}


def test_prefix_reuses_what_this_request_computed() -> None:
    """A second round whose prompt continues the first: question and answer are exact prefix. Would catch a baseline
    that is weaker than a server's prefix cache, KV of an answer at the wrong positions, and an account beside it."""
    templates = {
        "1": Template(((3, 4, 5), (22, 23)), ("user_question",)),
        "1 later": Template(((3, 4, 5), (22, 23), (24, 25)), ("user_question", "agent_1_history_1")),
    }
    runs = []
    for method in (Dense(), Prefix(MODEL)):
        engine = Engine(MODEL, method, FILLER)
        for name, template in templates.items():
            engine.register(name, template, answers="agent_1_current")
        with engine.open_batch(2) as requests:
            for request, length in zip(requests, (7, 4), strict=True):
                request.provide("user_question", tokens(length, length))
            first = engine.take_turns(requests, "1", max_new_tokens=MAX_NEW_TOKENS)
            for request in requests:
                request.next_round()
            runs.append((first, engine.take_turns(requests, "1 later", max_new_tokens=MAX_NEW_TOKENS)))
    (first, later), (prefix_first, prefix_later) = runs
    for dense, exact in zip((*first, *later), (*prefix_first, *prefix_later), strict=True):
        assert dense.answer_ids == exact.answer_ids
        torch.testing.assert_close(dense.first_logits_V, exact.first_logits_V, rtol=0, atol=1e-3)
        assert exact.plan.supplied == exact.exact_prefix_tokens == dense.exact_prefix_tokens
    assert [turn.plan.supplied for turn in prefix_first] == [3, 3]
    assert [len(turn.prompt) - turn.plan.supplied for turn in prefix_later] == [2, 2]
    assert [turn.plan.reused_text_tokens for turn in prefix_later] == [5, 5]
