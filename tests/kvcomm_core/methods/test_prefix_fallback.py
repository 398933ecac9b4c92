"""``fallback: prefix``: a turn without estimates keeps the exact leading text, and all else is as with ``dense``."""

from dataclasses import replace

import pytest
import torch
from three_agents import HEADER, TEMPLATES, ask, engine_of, tokens
from tiny_models import tiny_model

from kvcomm_core.config import KVCommConfig
from kvcomm_core.methods.kvcomm import KVComm
from kvcomm_core.turn import Turn

MODEL = tiny_model()
CONFIGS = {
    "by sample": KVCommConfig(gamma=0.3),
    "every dense turn teaches": KVCommConfig(gamma=0.3, learns="dense_turns", audit_share=0.5),
    "in place": KVCommConfig(criterion="always", estimator="affine", base="in_place", min_anchors=3),
    "calibrated": KVCommConfig(
        criterion="calibrated", estimator="affine", base="in_place", recompute="first:1", max_kl=1e-4, alpha=0.3
    ),
    "gated": KVCommConfig(criterion="gated", estimator="mean", max_kl=1e-4, min_anchors=2),
    "oracle": KVCommConfig(criterion="oracle", estimator="mean", max_kl=1e-4, min_anchors=2),
}
QUESTIONS = [tokens(7, seed) for seed in (0, 1, 2, 0, 3, 4, 1, 5)]


def taught(config: KVCommConfig) -> tuple[KVComm, list[Turn]]:
    """Return the method after these questions, and all their turns."""
    method = KVComm(MODEL, HEADER, config)
    engine = engine_of(MODEL, method)
    return method, [turn for question in QUESTIONS for turn in ask(engine, question)]


@pytest.mark.parametrize("name", CONFIGS)
def test_it_differs_from_dense_in_its_cost_alone(name: str) -> None:
    """Would catch a fallback that estimates, that loses its reason, that counts the leading text as computed, or whose
    turns teach less or other offsets than dense ones."""
    by_dense, dense = taught(CONFIGS[name])
    by_prefix, prefix = taught(replace(CONFIGS[name], fallback="prefix"))
    assert any(turn.mode == "dense" for turn in dense)
    for turn, other in zip(dense, prefix, strict=True):
        assert (turn.answer_ids, turn.plan.no_reuse) == (other.answer_ids, other.plan.no_reuse)
        torch.testing.assert_close(turn.first_logits_V, other.first_logits_V, rtol=0, atol=1e-4)
        if turn.mode != "dense":
            assert other.mode == turn.mode
            continue
        leading = len(TEMPLATES[turn.name].texts[0])
        assert (other.mode, other.plan.supplied, other.plan.estimated_tokens) == ("partial", leading, 0)
        assert (other.plan.reused_text_tokens, other.plan.reused_placeholder_tokens) == (leading, 0)
        assert other.computed.total == turn.computed.total - leading
        assert other.computed.learning == turn.computed.learning
        assert (turn.audit_kl is None) == (other.audit_kl is None)
    described, tensors = by_dense.describe_state()
    _, others = by_prefix.describe_state()
    assert tensors or described["calibration"], "nothing was learnt"
    for tensor, other_tensor in zip(tensors, others, strict=True):
        torch.testing.assert_close(tensor, other_tensor, rtol=2e-3, atol=2e-3)  # base values have 16 bits


def test_a_batch_may_hold_both() -> None:
    """Would catch a row that reuses and is filled as its neighbour that falls back, or the other way round."""
    method = KVComm(MODEL, HEADER, KVCommConfig(gamma=0.3, fallback="prefix"))
    engine = engine_of(MODEL, method)
    for seed in range(3):
        ask(engine, tokens(7, seed))
    questions = [tokens(7, 1), tokens(12, 9)]  # a repeat, and one that is longer than any anchor
    with engine.open_batch(2) as requests:
        for request, question in zip(requests, questions, strict=True):
            request.provide("user_question", question)
        turns = engine.take_turns(requests, "1", max_new_tokens=2)
    assert [turn.mode for turn in turns] == ["reuse", "partial"]
    for turn in turns:
        with torch.inference_mode():
            dense_V = MODEL.network(torch.tensor([turn.prompt.token_ids])).logits[0, -1]
        torch.testing.assert_close(turn.first_logits_V, dense_V, rtol=0, atol=1e-3)
