"""``prefix`` as the baseline that a server's prefix cache is."""

import torch
from three_agents import FILLER, MAX_NEW_TOKENS, tokens
from tiny_models import tiny_model

from kvcomm_core.engine import Engine
from kvcomm_core.methods.dense import Dense
from kvcomm_core.methods.prefix import Prefix
from kvcomm_core.template import Template

MODEL = tiny_model()


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
