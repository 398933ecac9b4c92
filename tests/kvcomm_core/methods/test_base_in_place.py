"""Base KV that the first reader of a question makes in its own prompt, on a model of six layers."""

import pytest
import torch
from slow_kvcomm import Layers, SlowKVComm
from three_agents import FILLER, HEADER, TEMPLATES, engine_of, tokens
from tiny_models import tiny_model

from kvcomm_core.config import KVCommConfig
from kvcomm_core.methods.kvcomm import KVComm
from kvcomm_core.template import TokenIds
from kvcomm_core.turn import Turn

MODEL = tiny_model(layers=6)
CONFIG = KVCommConfig(criterion="always", estimator="mean", recompute="tail", base="in_place")
ITEMS: list[tuple[TokenIds, TokenIds]] = [(tokens(8, 2 * seed), tokens(6, 2 * seed + 1)) for seed in range(3)]
SLOW = SlowKVComm(
    MODEL, TEMPLATES, header=HEADER, filler=FILLER, blend_temperature=1.0, min_anchors=1, max_new_tokens=1
)


def last_turns(config: KVCommConfig) -> dict[str, Turn]:
    """Take three items through agents 1 and 2, and return the turns of the last, in which the pools are warm."""
    engine = engine_of(MODEL, KVComm(MODEL, HEADER, config))
    turns: dict[str, Turn] = {}
    for question, answer in ITEMS:
        with engine.open() as request:
            request.provide("user_question", question)
            for name in ("1", "2"):
                answers = [answer if name == "1" else tokens(3, 9)]
                turns[name] = engine.take_turns([request], name, max_new_tokens=1, answers=answers, keep_kv=[0])[0]
    return turns


def prompt_of(name: str, item: int) -> tuple[TokenIds, int, int]:
    """Return a prompt, and where its question begins and ends."""
    question, answer = ITEMS[item]
    prompt = TEMPLATES[name].fill({"user_question": question, "agent_1_current": answer})
    return prompt.token_ids, prompt.holes[0].start, prompt.holes[0].stop


def question_in(name: str, item: int) -> Layers:
    """Return the true KV of the question in an agent's prompt, its keys at local positions."""
    ids, start, stop = prompt_of(name, item)
    return SLOW.local(SLOW.prefill(ids), start, stop)


def test_the_first_reader_needs_no_estimate() -> None:
    """Its question follows exact text, and its tail runs, so nothing is left to estimate. Catches a question that is
    estimated all the same, and tokens that are not counted."""
    turn = last_turns(CONFIG)["1"]
    assert turn.mode == "reuse"
    with torch.inference_mode():
        dense_V = MODEL.network(torch.tensor([turn.prompt.token_ids])).logits[0, -1]
    torch.testing.assert_close(turn.first_logits_V, dense_V, rtol=0, atol=1e-4)
    assert (turn.computed.base_kv, turn.computed.recompute) == (0, 8)
    assert turn.plan.reused_placeholder_tokens == 0
    assert turn.plan.estimated_tokens == 0


def test_the_second_reader_corrects_what_the_first_one_made() -> None:
    """The question's KV in agent 2's prompt, against its KV in agent 1's plus the mean of what lay between the two in
    the items before. Catches offsets from another base than the one they are added to, and positions mixed up."""
    turn = last_turns(CONFIG)["2"]
    assert turn.mode == "reuse"
    assert turn.computed.base_kv == 0
    assert turn.plan.reused_placeholder_tokens == 8 + 6
    _, start, stop = prompt_of("2", 2)
    assert turn.prompt_kv is not None
    (keys_LHTD,), (values_LHTD,) = turn.prompt_kv.keys, turn.prompt_kv.values
    base, seen = question_in("1", 2), [(question_in("1", item), question_in("2", item)) for item in (0, 1)]
    for layer, (key, value) in enumerate(base):
        keys = key + sum(two[layer][0] - one[layer][0] for one, two in seen) / 2
        values = value + sum(two[layer][1] - one[layer][1] for one, two in seen) / 2
        torch.testing.assert_close(keys_LHTD[layer, :, start:stop], SLOW.rotate(keys, start, layer), rtol=0, atol=1e-4)
        torch.testing.assert_close(values_LHTD[layer, :, start:stop], values, rtol=0, atol=1e-4)


def test_the_tokens_cost_the_same_as_alone() -> None:
    """Catches an account that hides the question in either way."""
    in_place = last_turns(CONFIG)
    alone = last_turns(KVCommConfig(criterion="always", estimator="mean", recompute="tail"))
    for name in ("1", "2"):
        assert in_place[name].computed.total == alone[name].computed.total


@pytest.mark.parametrize("other", [{"criterion": "entropy_fitted"}, {"estimator": "l2_norm"}, {"base": "nowhere"}])
def test_base_in_place_asks_for_nothing_to_compare(other: dict[str, str]) -> None:
    """Catches a sample that is compared before it has any KV."""
    with pytest.raises(ValueError, match=r"base is .*; allowed: "):
        KVCommConfig(**{"criterion": "always", "estimator": "mean", "base": "in_place", **other})  # type: ignore[arg-type]
