"""The tokens that a turn computed, reused and estimated, and the reasons why it did not reuse."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from three_agents import FILLER, HEADER, MAX_NEW_TOKENS, TEMPLATES, ask, engine_of, tokens
from tiny_models import tiny_model

from kvcomm_core import segments
from kvcomm_core.config import KVCommConfig
from kvcomm_core.engine import Engine
from kvcomm_core.method import Method, NoReuse
from kvcomm_core.methods.baseline_config import CacheBlendConfig
from kvcomm_core.methods.cacheblend import CacheBlend
from kvcomm_core.methods.dense import Dense
from kvcomm_core.methods.kvcomm import KVComm
from kvcomm_core.methods.kvcomm_session import KVCommSession
from kvcomm_core.methods.naive import Naive
from kvcomm_core.methods.prefix import Prefix
from kvcomm_core.template import Template
from kvcomm_core.turn import Turn

MODEL = tiny_model()
LENGTHS = {"1": (7, 0), "2": (7, 5), "3": (5, 7)}
"""Tokens of each agent's distinct placeholders for a question of 7 tokens."""


def methods() -> dict[str, Method]:
    return {
        "dense": Dense(),
        "prefix": Prefix(MODEL),
        "naive": Naive(MODEL, HEADER),
        "cacheblend": CacheBlend(MODEL, HEADER, CacheBlendConfig(ratio=0.3)),
        "kvcomm": KVComm(MODEL, HEADER, KVCommConfig(gamma=1.0)),
        "partial": KVComm(MODEL, HEADER, KVCommConfig(gamma=0.0, fallback="partial")),
        "prefix fallback": KVComm(MODEL, HEADER, KVCommConfig(gamma=0.0, fallback="prefix")),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", methods())
def test_each_prompt_token_is_reused_or_computed_once(name: str) -> None:
    """Would catch base KV of this turn's samples counted as reused, and tokens counted twice or never.

    A token of a new sample may be computed twice: alone for its base KV, and again where it is recomputed or where the
    turn falls back.
    """
    engine = engine_of(MODEL, methods()[name])
    for seed in range(5):
        for turn in ask(engine, tokens(7, seed)):
            reused = turn.plan.reused_text_tokens + turn.plan.reused_placeholder_tokens
            computed = turn.computed.prefill + turn.computed.recompute + turn.computed.base_kv
            assert 0 <= reused < len(turn.prompt)
            assert turn.computed.prefill == len(turn.prompt) - turn.plan.supplied
            if name == "cacheblend":  # it runs more tokens through its first layers than it recomputes
                assert reused + turn.computed.prefill <= len(turn.prompt) < reused + computed
            elif turn.computed.base_kv and (turn.computed.recompute or turn.plan.falls_back):
                assert len(turn.prompt) <= reused + computed
            else:
                assert reused + computed == len(turn.prompt)
            assert turn.computed.total == computed + turn.computed.learning


def test_base_kv_of_a_new_question_is_computed_and_not_reused() -> None:
    """The accounts of table 1 once counted it as reused: 15.6 of 61.5 points with two agents."""
    engine = engine_of(MODEL, methods()["kvcomm"])
    for seed in range(3):
        ask(engine, tokens(7, seed))
    first, second, third = ask(engine, tokens(7, 99))
    assert [turn.mode for turn in (first, second, third)] == ["reuse"] * 3
    assert (first.plan.reused_placeholder_tokens, first.computed.base_kv) == (0, 7)
    assert (second.plan.reused_placeholder_tokens, second.computed.base_kv) == (7 + MAX_NEW_TOKENS, 0)
    assert third.plan.reused_placeholder_tokens == 2 * MAX_NEW_TOKENS + 7
    assert [turn.computed.prefill for turn in (first, second, third)] == [1, 1, 1]


def test_a_sample_in_two_holes_is_computed_once() -> None:
    """Would catch a repeated placeholder whose second hole is counted as computed, or whose first is counted as
    reused."""
    engine = Engine(MODEL, Naive(MODEL, HEADER), FILLER)
    engine.register("1", Template(((7,), (8,), (9,)), ("user_question", "user_question")))
    with engine.open() as request:
        request.provide("user_question", tokens(6, 0))
        turn = request.take_turn("1", max_new_tokens=1)
    assert (turn.computed.base_kv, turn.plan.reused_placeholder_tokens) == (6, 6)


def test_the_header_that_runs_again_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch tokens that are computed for base KV but lie in no prompt."""
    monkeypatch.setattr(segments, "_HEADER_AGAIN_FROM", 0)
    turn = ask(engine_of(MODEL, Naive(MODEL, HEADER)), tokens(7, 0))[0]
    assert turn.computed.base_kv == 7 + len(HEADER)


def test_what_is_taken_from_another_context_is_estimated() -> None:
    """The exact leading text does not count, nor what is recomputed. Would catch an exact prefix called estimated."""
    for name, expected in {"dense": 0, "prefix": 0}.items():
        assert {turn.plan.estimated_tokens for turn in ask(engine_of(MODEL, methods()[name]), tokens(7, 0))} == {
            expected
        }
    for turn in ask(engine_of(MODEL, methods()["naive"]), tokens(7, 0)):
        assert turn.plan.estimated_tokens == len(turn.prompt) - 1 - len(TEMPLATES[turn.name].texts[0])


def test_an_exact_prefix_is_the_longest_that_any_earlier_prompt_shares() -> None:
    """Agents 1 and 2 share three tokens of leading text beside their own. In a second turn on the same content, agent
    2's prompt continues its first one. Would catch an account that knows only the own leading text."""
    engine = engine_of(MODEL, Dense())
    engine.register("2 again", Template(((3, 4, 5, 30), (), (31, 32, 50)), TEMPLATES["2"].holes), answers="again")
    with engine.open() as request:
        request.provide("user_question", tokens(7, 0))
        turns = [request.take_turn(name, max_new_tokens=MAX_NEW_TOKENS) for name in ("1", "2", "2 again")]
    assert [turn.exact_prefix_tokens for turn in turns] == [5, 4, 4 + 7 + MAX_NEW_TOKENS + 2]


def reasons(turns: list[Turn]) -> list[tuple[str, str] | None]:
    return [turn.plan.no_reuse and (turn.plan.no_reuse.reason, turn.plan.no_reuse.placeholder) for turn in turns]


def test_each_turn_that_does_not_reuse_says_why() -> None:
    """Would catch a reason given to the wrong placeholder, and two reasons mixed up."""
    engine = engine_of(MODEL, KVComm(MODEL, HEADER, KVCommConfig(gamma=1.0)))
    for seed in range(2):
        assert reasons(ask(engine, tokens(7, seed))) == [
            ("cold", "user_question"),
            ("cold", "user_question"),
            ("cold", "agent_2_current"),
        ]
    assert reasons(ask(engine, tokens(7, 2))) == [None, None, None]
    assert reasons(ask(engine, tokens(8, 3))) == [
        ("too_long", "user_question"),
        ("too_long", "user_question"),
        ("too_long", "user_question"),
    ]
    strict = engine_of(MODEL, KVComm(MODEL, HEADER, KVCommConfig(gamma=0.0)))
    for seed in range(2):
        ask(strict, tokens(7, seed))
    assert reasons(ask(strict, tokens(7, 2)))[:2] == [("refused", "user_question")] * 2


def test_a_slot_that_no_anchor_has_met_is_a_reason() -> None:
    """Two requests end before agent 2. Would catch a dense turn without a reason."""
    engine = engine_of(MODEL, KVComm(MODEL, HEADER, KVCommConfig(gamma=1.0)))
    for seed in range(2):
        with engine.open() as request:
            request.provide("user_question", tokens(7, seed))
            request.take_turn("1", max_new_tokens=1)
    turns = ask(engine, tokens(7, 2))
    assert (turns[0].mode, turns[1].mode) == ("reuse", "dense")
    assert turns[1].plan.no_reuse == NoReuse("slot_unmet", "user_question")


@pytest.mark.slow
@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(0, 9), min_size=4, max_size=8),
    st.sampled_from([KVCommConfig(gamma=1.0), KVCommConfig(), KVCommConfig(estimator="mean", criterion="always")]),
)
def test_base_kv_made_later_changes_nothing_but_the_time(lengths: list[int], config: KVCommConfig) -> None:
    """Base KV that only learning needs is made after the first token. The same requests with all base KV made before
    it give the same turns and the same pools.

    Would catch a turn ruled out that could have reused, a verdict that is lost, and an anchor that is not drafted.
    """
    runs = []
    for early in (False, True):
        method = KVComm(MODEL, HEADER, config)
        engine = engine_of(MODEL, method)
        with pytest.MonkeyPatch.context() as patch:
            if early:
                patch.setattr(KVCommSession, "is_ruled_out", lambda *_: False)
            turns = [turn for seed, length in enumerate(lengths) for turn in ask(engine, tokens(length, seed))]
        runs.append((turns, {p: [a.token_ids for a in s.anchors] for p, s in method.pools.snapshot().items()}))
    (late, pools), (early_turns, early_pools) = runs
    assert pools == early_pools
    for turn, reference in zip(late, early_turns, strict=True):
        assert (turn.mode, turn.answer_ids) == (reference.mode, reference.answer_ids)
        assert turn.computed.total == reference.computed.total
        assert turn.computed.base_kv <= reference.computed.base_kv
    cold = late[0]
    assert (cold.computed.base_kv, cold.computed.learning) == (0, lengths[0] + 1)  # and the answer's last token
    assert "base_kv" in cold.phases_s
    assert replace(cold.computed, learning=0, base_kv=lengths[0]) == replace(early_turns[0].computed, learning=0)


def test_the_end_of_a_request_is_timed() -> None:
    """Would catch work that happens after the last turn and is in no time."""
    engine = engine_of(MODEL, KVComm(MODEL, HEADER, KVCommConfig()))
    with engine.open() as request:
        request.provide("user_question", tokens(7, 0))
        request.take_turn("1", max_new_tokens=1)
        assert request.publish_s is None
    assert request.publish_s is not None
    assert request.publish_s > 0


def test_the_papers_ttft_leaves_out_base_kv_and_the_test_alone() -> None:
    """Would catch blending weights and fetching that are left out with the test, as they once were."""
    engine = engine_of(MODEL, KVComm(MODEL, HEADER, KVCommConfig(gamma=1.0)))
    for seed in range(3):
        ask(engine, tokens(7, seed))
    turn = ask(engine, tokens(7, 9))[0]
    assert {"base_kv", "match", "estimate", "blend", "prefill"} <= turn.phases_s.keys()
    left_out = turn.phases_s["base_kv"] + turn.phases_s["match"]
    assert turn.ttft_paper_s == pytest.approx(turn.ttft_s - left_out)
