"""Criteria for whole turns, audits, and what they teach: on models of six layers, against separate runs of the same
turns without them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from three_agents import HEADER, TEMPLATES, engine_of, tokens
from tiny_models import tiny_model
from torch import Tensor

from kvcomm_core.config import KVCommConfig
from kvcomm_core.engine import Engine
from kvcomm_core.gates.attempt import Attempt, Tried
from kvcomm_core.gates.auditing import is_drawn
from kvcomm_core.methods.kvcomm import KVComm
from kvcomm_core.pools.anchors import Slot
from kvcomm_core.pools.running_means import MeanOffset
from kvcomm_core.stopwatch import Stopwatch
from kvcomm_core.template import TokenIds
from kvcomm_core.turn import Turn

MODEL = tiny_model(layers=6)
ALWAYS = KVCommConfig(criterion="always", estimator="mean", recompute="tail")
PAIRS = [(tokens(8, 2 * seed), tokens(6, 2 * seed + 1)) for seed in range(6)]
"""Questions and answers of agent 1."""


def engine_with(config: KVCommConfig) -> tuple[Engine, KVComm]:
    method = KVComm(MODEL, HEADER, config)
    return engine_of(MODEL, method), method


def take(engine: Engine, question: TokenIds, answer: TokenIds) -> Turn:
    """Take the turn of agent 2."""
    with engine.open() as request:
        request.provide("user_question", question)
        request.provide("agent_1_current", answer)
        return engine.take_turns([request], "2", max_new_tokens=1, keep_kv=[0])[0]


def third(config: KVCommConfig) -> Turn:
    """Fill the pools with two samples, and take a third turn."""
    engine, _ = engine_with(config)
    return [take(engine, *pair) for pair in PAIRS[:3]][-1]


def kl(p_V: Tensor, q_V: Tensor) -> float:
    """KL(p || q) of logits, term by term."""
    p, q = torch.softmax(p_V.double(), 0).tolist(), torch.softmax(q_V.double(), 0).tolist()
    return sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True))


def dense_logits(turn: Turn) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = MODEL.network(torch.tensor([turn.prompt.token_ids])).logits[0, -1]
    return logits


@pytest.mark.parametrize("recompute", ["tail", "none", "first:1"])
def test_gated_compares_the_estimate_with_rotation_alone(recompute: str) -> None:
    """Catches the two taken the wrong way round, an attempt that keeps offsets, a tail that is not run, and an answer
    from another KV than the one that was judged."""
    always = replace(ALWAYS, recompute=recompute)
    estimate = third(always)
    rotated = third(replace(always, placeholder_offset=False, text_offset=False))
    expected = kl(estimate.first_logits_V, rotated.first_logits_V)
    accepted = third(replace(always, criterion="gated", max_kl=expected * 1.001))
    assert accepted.mode == "reuse"
    assert accepted.plan.judged_kl == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(accepted.first_logits_V, estimate.first_logits_V, rtol=0, atol=1e-5)
    refused = third(replace(always, criterion="gated", max_kl=expected * 0.999))
    assert refused.mode == "dense"
    assert refused.plan.no_reuse is not None
    assert refused.plan.no_reuse.reason == "refused"
    torch.testing.assert_close(refused.first_logits_V, dense_logits(refused), rtol=0, atol=1e-4)


def test_gated_counts_both_attempts() -> None:
    """Catches an account in favour of the gate: its two tails, or tokens that a refused turn ran in vain."""
    tail = len(TEMPLATES["2"].texts[-1])
    accepted, refused = (third(replace(ALWAYS, criterion="gated", max_kl=max_kl)) for max_kl in (1e3, 1e-12))
    assert accepted.computed.recompute == 2 * tail
    assert accepted.computed.prefill == 1
    assert refused.computed.recompute == 2 * tail
    assert refused.computed.prefill == len(refused.prompt)
    plain = third(ALWAYS)
    assert accepted.plan.reused_text_tokens == plain.plan.reused_text_tokens
    assert accepted.plan.reused_placeholder_tokens == plain.plan.reused_placeholder_tokens
    assert accepted.plan.estimated_tokens == plain.plan.estimated_tokens


def test_the_estimate_of_gated_is_no_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches the pass that makes the answer's KV booked as the test, which the paper's account of TTFT leaves out."""
    inside: list[str] = []
    ran = []
    phase, run = Stopwatch.phase, Attempt.run

    @contextmanager
    def noted(watch: Stopwatch, name: str) -> Iterator[None]:
        inside.append(name)
        with phase(watch, name):
            yield
        inside.pop()

    def noting(attempt: Attempt, *, corrected: bool = True) -> Tried:
        ran.append((corrected, inside[-1]))
        return run(attempt, corrected=corrected)

    monkeypatch.setattr(Stopwatch, "phase", noted)
    monkeypatch.setattr(Attempt, "run", noting)
    assert third(replace(ALWAYS, criterion="gated", max_kl=1e3)).mode == "reuse"
    assert ran[-2:] == [(False, "match"), (True, "prefill")]


def test_the_oracle_knows_the_truth_and_pays_nothing_for_it() -> None:
    """Catches an oracle that judges by anything but KL(dense || reuse), or whose turns cost more than reuse."""
    plain = third(ALWAYS)
    expected = kl(dense_logits(plain), plain.first_logits_V)
    accepted = third(replace(ALWAYS, criterion="oracle", max_kl=expected * 1.001))
    assert accepted.plan.judged_kl == pytest.approx(expected, abs=1e-6)
    assert (accepted.mode, accepted.computed) == ("reuse", plain.computed)
    refused = third(replace(ALWAYS, criterion="oracle", max_kl=expected * 0.999))
    assert (refused.mode, refused.computed.recompute) == ("dense", 0.0)


def test_an_audit_measures_the_kl_of_reuse() -> None:
    """Catches an audit of the method against itself, and a dense prefill that nobody pays for."""
    turn = third(replace(ALWAYS, audit_share=1.0))
    assert turn.mode == "reuse"
    assert turn.audit_kl == pytest.approx(kl(dense_logits(turn), turn.first_logits_V), abs=1e-6)
    plain = third(ALWAYS)
    assert plain.audit_kl is None
    assert turn.computed.learning == plain.computed.learning + len(turn.prompt)
    assert turn.plan.recomputed_tokens == plain.plan.recomputed_tokens


def means_of(method: KVComm) -> MeanOffset:
    found = method.pools.snapshot()["agent_1_current"].means[Slot("2", 1)]
    assert isinstance(found, MeanOffset)
    return found


def test_audited_turns_teach_what_dense_turns_teach() -> None:
    """Pools filled by audits of reused turns, against pools that took every turn densely. Catches offsets measured from
    the estimate instead of the truth, and a pool that stops learning when it is warm."""
    learnt = []
    for config in (replace(ALWAYS, audit_share=1.0), replace(ALWAYS, min_anchors=99)):
        engine, method = engine_with(config)
        modes = {take(engine, *pair).mode for pair in PAIRS}
        learnt.append((means_of(method), modes))
    (audited, modes), (dense, _) = learnt
    assert modes == {"dense", "reuse"}
    assert audited.samples == dense.samples == len(PAIRS)
    # min_anchors also says from how many samples on a token has a mean of its own, so the means themselves compare.
    ours = (*audited.placeholder.keys, *audited.text.values)
    theirs = (*dense.placeholder.keys, *dense.text.values)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_every_dense_turn_teaches_if_asked_to() -> None:
    """The answer is longer than any anchor, so the turn is dense, although the question matches. Catches a question
    that teaches nothing then, and one that teaches although nobody asked."""
    config = KVCommConfig(criterion="length", min_anchors=2)
    for learns, samples in (("new_samples", 2), ("dense_turns", 3)):
        engine, method = engine_with(replace(config, learns=learns))
        for pair in PAIRS[:2]:
            take(engine, *pair)
        turn = take(engine, PAIRS[2][0], tokens(9, 50))
        assert turn.mode == "dense"
        assert len(method.pools["user_question"]) == samples
        assert len(method.pools["agent_1_current"]) == 3


def test_calibrated_turns_are_dense_until_audits_allow_reuse() -> None:
    """With everything allowed, the first 32 audits of turns that could reuse open the gate. Catches dense turns that
    are no audits, and audits of turns that had no estimate."""
    config = replace(ALWAYS, criterion="calibrated", max_kl=1e3, alpha=0.1, learns="dense_turns")
    engine, _ = engine_with(config)
    turns = [take(engine, tokens(8, 100 + 2 * seed), tokens(6, 101 + 2 * seed)) for seed in range(36)]
    audited = [turn.audit_kl is not None for turn in turns]
    modes = [turn.mode for turn in turns]
    opened = modes.index("reuse")
    assert audited[:opened] == [False] * 2 + [True] * (opened - 2)
    assert opened == 2 + 32
    assert set(modes[opened:]) == {"reuse"}
    assert turns[1].plan.no_reuse is not None
    assert turns[1].plan.no_reuse.reason == "cold"
    assert turns[5].plan.no_reuse is not None
    assert turns[5].plan.no_reuse.reason == "refused"
    # The audit runs the tail, and the answer's last token runs for its KV.
    assert turns[5].computed.learning == len(TEMPLATES["2"].texts[-1]) + 1


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_prompts_are_drawn_in_the_share_asked_for(share: float) -> None:
    """Catches a draw that takes none or all, and one that differs from run to run."""
    drawn = [is_drawn(tokens(5, seed), share) for seed in range(400)]
    assert abs(sum(drawn) / 400 - share) <= 2.5 * math.sqrt(share * (1 - share) / 400)
    assert drawn == [is_drawn(tokens(5, seed), share) for seed in range(400)]


@pytest.mark.parametrize(
    ("field", "value"), [("alpha", 0.0), ("alpha", 1.0), ("max_kl", 0.0), ("audit_share", 1.1), ("learns", "all")]
)
def test_other_values_are_refused(field: str, value: object) -> None:
    """Catches a promise about none or all of the turns, and a mistyped name that teaches nothing."""
    with pytest.raises(ValueError, match=f"{field} is {value!r}; allowed: "):
        KVCommConfig(**{field: value})  # type: ignore[arg-type]
