"""``kvcomm`` with recomputation after the estimate."""

from typing import get_args

import pytest
import torch
from three_agents import HEADER, TEMPLATES, engine_of, tokens
from tiny_models import tiny_model

from kvcomm_core.config import Estimator, Fallback, KVCommConfig
from kvcomm_core.method import Method
from kvcomm_core.template import TokenIds
from kvcomm_core.turn import Turn

MODEL = tiny_model(layers=6)
QUESTION, ANSWER = tokens(8, 0), tokens(6, 1)


def reusing_turn(
    recompute: str, estimator: Estimator = "mean", fallback: Fallback = "dense", answer: TokenIds = ANSWER
) -> Turn:
    """Fill the pools with two samples, and take the turn of agent 2 that reads a third."""
    parameters = KVCommConfig(
        criterion="always",
        estimator=estimator,
        recompute=recompute,
        fallback=fallback,  # type: ignore[arg-type]
    )
    method: Method = parameters.build(MODEL, HEADER)
    engine = engine_of(MODEL, method)
    for question, earlier in ((tokens(8, 2), tokens(6, 3)), (tokens(8, 4), tokens(6, 5)), (QUESTION, answer)):
        with engine.open() as request:
            request.provide("user_question", question)
            request.provide("agent_1_current", earlier)
            turn = engine.take_turns([request], "2", max_new_tokens=1, keep_kv=[0])[0]
    return turn


def dense_logits(turn: Turn) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = MODEL.network(torch.tensor([turn.prompt.token_ids])).logits[0, -1]
    return logits


@pytest.mark.parametrize("recompute", ["share:1.0", "query:1.0", "first:99"])
@pytest.mark.parametrize("estimator", get_args(Estimator))
def test_recomputing_everything_equals_dense(estimator: Estimator, recompute: str) -> None:
    """Catches recomputation that does not reach the prompt, whatever estimated it, and leading text that is not
    exact."""
    turn = reusing_turn(recompute, estimator)
    assert turn.mode == "reuse"
    torch.testing.assert_close(turn.first_logits_V, dense_logits(turn), rtol=0, atol=1e-4)
    assert turn.plan.estimated_tokens == 0


def test_the_tail_alone_runs_over_the_estimate() -> None:
    """Catches a tail that is estimated all the same, and one that sees anything but the estimate of what precedes
    it."""
    plain, tail = reusing_turn("none"), reusing_turn("tail")
    last = TEMPLATES["2"].texts[-1]
    assert tail.plan.supplied == len(tail.prompt) - len(last)
    assert tail.plan.estimated_tokens == plain.plan.estimated_tokens - len(last) + 1
    assert plain.prompt_kv is not None
    assert tail.prompt_kv is not None
    before = tail.plan.supplied
    for ours, theirs in zip(tail.prompt_kv.slice(0, before).keys, plain.prompt_kv.slice(0, before).keys, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert (tail.first_logits_V - plain.first_logits_V).abs().max() > 1e-4


@pytest.mark.parametrize(("last", "run"), [(1, 1), (2, 2), (3, 3), (99, 3)])
def test_the_last_tokens_of_the_tail_run(last: int, run: int) -> None:
    """Catches a number of tokens that reaches beyond the last text, into what others estimate."""
    turn = reusing_turn(f"last:{last}")
    assert len(TEMPLATES["2"].texts[-1]) == 3
    assert turn.plan.supplied == len(turn.prompt) - run


@pytest.mark.parametrize(("recompute", "recomputed"), [("tail", 0), ("first:2", 2 + 2), ("first:99", 8 + 6)])
def test_the_account(recompute: str, recomputed: int) -> None:
    """Catches tokens that are recomputed and count as estimated or as reused."""
    turn = reusing_turn(recompute)
    leading = len(TEMPLATES["2"].texts[0])
    assert turn.plan.recomputed_tokens == recomputed
    assert turn.plan.estimated_tokens == turn.plan.supplied - leading - recomputed
    reused = turn.plan.reused_text_tokens + turn.plan.reused_placeholder_tokens
    assert reused <= turn.plan.supplied - recomputed


def test_joined_choices_recompute_both() -> None:
    """The last text is supplied but for its last token, so its first one is recomputed. Catches a choice that is lost,
    and a last text that counts as no segment although it is estimated."""
    turn = reusing_turn("last:1+first:1")
    assert turn.plan.supplied == len(turn.prompt) - 1
    # The question and the answer, no token of the empty text between them, and the last text.
    assert turn.plan.recomputed_tokens == 3
    share = reusing_turn("share:0.2+first:1").plan
    alone = reusing_turn("share:0.2").plan
    assert share.estimated_tokens == alone.estimated_tokens - 2


def test_partial_turns_recompute_the_lost_and_the_chosen() -> None:
    """The answer is too long to be estimated. Catches a choice that forgets it, and a share that has it take the place
    of deviating tokens."""
    longer = tokens(9, 7)
    lost = reusing_turn("tail", "nearest", "partial", longer)
    both = reusing_turn("share:0.2", "nearest", "partial", longer)
    assert (lost.mode, both.mode) == ("partial", "partial")
    assert lost.plan.recomputed_tokens == len(longer)
    asked = reusing_turn("query:0.2", "nearest", "partial", longer)
    share = int(0.2 * both.plan.supplied)
    last = len(TEMPLATES["2"].texts[-1])
    assert len(longer) + last <= asked.plan.recomputed_tokens <= len(longer) + last + share
    whole_model = len(longer) + share
    assert both.plan.recomputed_tokens >= whole_model
    assert both.plan.estimated_tokens == both.plan.supplied - len(TEMPLATES["2"].texts[0]) - whole_model


@pytest.mark.parametrize(
    "text",
    [
        "",
        "all",
        "tail:3",
        "none:",
        "last",
        "last:0",
        "first",
        "first:0",
        "first:1.5",
        "share:0",
        "share:1.1",
        "share:x",
        "query",
    ],
)
def test_other_choices_are_refused(text: str) -> None:
    """Catches a mistyped choice that recomputes nothing."""
    with pytest.raises(ValueError, match=r"recompute is .*; allowed: none, tail, last:K or first:K"):
        KVCommConfig(recompute=text)
