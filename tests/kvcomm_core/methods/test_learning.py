"""What ``kvcomm`` learns: offsets of true KV alone, and repeats that are really the same."""

import torch
from three_agents import HEADER, TEMPLATES, ask, engine_of, tokens
from tiny_models import tiny_model

from kvcomm_core.config import KVCommConfig
from kvcomm_core.engine import Engine
from kvcomm_core.methods.kvcomm import KVComm
from kvcomm_core.pools.anchors import Slot
from kvcomm_core.template import TokenIds

MODEL = tiny_model()


def ask_two(engine: Engine, question: TokenIds, answer: TokenIds) -> str:
    """Ask agent 2 with a given question and answer of agent 1; return the mode."""
    with engine.open() as request:
        request.provide("user_question", question)
        request.provide("agent_1_current", answer)
        return request.take_turn("2", max_new_tokens=1).mode


def true_keys(prompt: TokenIds, start: int, stop: int) -> torch.Tensor:
    """Keys ``[L, H, T, D]`` of some tokens of a prompt by a plain forward pass, moved to local positions."""
    with torch.inference_mode():
        cache = MODEL.network(torch.tensor([prompt]), use_cache=True).past_key_values
    keys_LHTD = torch.stack([layer.keys[0, :, start:stop] for layer in cache.layers])
    return MODEL.rope.move(keys_LHTD, -start)


def test_partial_turns_teach_only_true_offsets() -> None:
    """The question is estimated, and the answer after it refused and recomputed over that estimate. Its KV is not the
    truth of its context (50 % off on 8 layers), so no anchor may hold its offset.

    Would catch learning from partial turns. A refused question, which stands before everything estimated, is true and
    must be learnt.
    """
    method = KVComm(MODEL, HEADER, KVCommConfig(fallback="partial", gamma=0.5, estimator="nearest"))
    engine = engine_of(MODEL, method)
    question = tokens(8, 0)
    assert ask_two(engine, question, tokens(6, 1)) == "dense"
    assert ask_two(engine, tokens(8, 2), tokens(6, 3)) == "dense"
    known = len(method.pools["agent_1_current"])
    assert ask_two(engine, question, tokens(7, 4)) == "partial"  # the answer is too long
    assert len(method.pools["agent_1_current"]) == known, "an offset over an estimate was learnt"

    longer = tokens(9, 5)
    assert ask_two(engine, longer, tokens(6, 1)) == "partial"  # the question is too long, the answer a repeat
    newest = method.pools["user_question"].snapshot().anchors[-1]
    assert newest.token_ids == longer
    prompt = TEMPLATES["2"].fill({"user_question": longer, "agent_1_current": tokens(6, 1)})
    [base], _ = method.segments.prefill_alone([longer])
    true = true_keys(prompt.token_ids, prompt.holes[0].start, prompt.holes[0].stop)
    offset = newest.offsets[Slot("2", 0)].placeholder
    torch.testing.assert_close(base.kv.keys[0] + offset.keys[0], true, rtol=0, atol=1e-3)


def test_partial_recomputes_only_what_lacks_an_offset() -> None:
    """Would catch a fallback that recomputes everything, and one that leaves the new sample uncorrected."""
    method = KVComm(MODEL, HEADER, KVCommConfig(fallback="partial"))
    engine = engine_of(MODEL, method)
    question, answer = tokens(8, 0), tokens(9, 77)
    for other, earlier in ((question, tokens(6, 1)), (tokens(8, 2), tokens(6, 3))):
        ask_two(engine, other, earlier)
    with engine.open() as request:
        request.provide("user_question", question)
        request.provide("agent_1_current", answer)
        turn = request.take_turn("2", max_new_tokens=1)
    template = TEMPLATES["2"]
    assert turn.mode == "partial"
    assert turn.plan.reused_placeholder_tokens == 0  # the question's base KV is made in this turn
    assert turn.plan.reused_text_tokens == len(template.texts[0]) + len(template.texts[1])
    assert turn.plan.recomputed_tokens == len(answer) + len(template.texts[2]) - 1
    assert turn.plan.estimated_tokens == len(question)
    with torch.inference_mode():
        dense_V = MODEL.network(torch.tensor([turn.prompt.token_ids])).logits[0, -1]
    # The question's KV is exact here (its own anchor), so what is recomputed on top of it is exact, too.
    torch.testing.assert_close(turn.first_logits_V, dense_V, rtol=0, atol=1e-3)


def test_a_repeat_with_the_mean_keeps_min_anchors() -> None:
    """The mean of all samples is not a repeat's own offset. Would catch a repeat that is called exact after one
    sample."""
    engine = engine_of(MODEL, KVComm(MODEL, HEADER, KVCommConfig(estimator="mean", gamma=1.0, min_anchors=3)))
    for _ in range(3):
        assert [turn.mode for turn in ask(engine, tokens(7, 0))] == ["dense"] * 3
    assert ask(engine, tokens(7, 0))[0].mode == "reuse"


def test_a_short_row_of_a_batch_teaches_the_kv_of_its_last_token() -> None:
    """Two questions are too long for their pool and are recomputed in one batch. The shorter prompt's last token runs
    behind a gap. Would catch the offset of the text's last token read from the gap."""
    method = KVComm(MODEL, HEADER, KVCommConfig(fallback="partial"))
    engine = engine_of(MODEL, method)
    for seed in range(2):
        ask(engine, tokens(5, seed))
    questions = [tokens(8, 10), tokens(14, 11)]
    with engine.open_batch(2) as requests:
        for request, question in zip(requests, questions, strict=True):
            request.provide("user_question", question)
        turns = engine.take_turns(requests, "1", max_new_tokens=2)
    assert [turn.mode for turn in turns] == ["partial"] * 2
    for turn, anchor in zip(turns, method.pools["user_question"].snapshot().anchors[-2:], strict=True):
        after = turn.prompt.texts[1]
        true = true_keys(turn.prompt.token_ids, after.start, after.stop)
        base = method.segments.texts["1"][1].kv.keys[0]
        torch.testing.assert_close(base + anchor.offsets[Slot("1", 0)].text.keys[0], true, rtol=0, atol=1e-3)
