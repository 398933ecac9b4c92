"""Reasons of turns, counted by hand.

These tests would catch a reason that falls out of the count, so that the shares do not add up, methods without pools
among the turns, a placeholder under the name of another kind, and 0 where older results hold no reasons.
"""

from types import SimpleNamespace

import pytest

from harness.results.no_reuse import KINDS, REASONS, REUSED, UNRECORDED, count_accounts, placeholder_kind
from kvcomm_core.config import NoReuseReason
from kvcomm_core.method import answer_placeholder, condition_placeholder, in_next_round


def turn(mode, reason=None, placeholder=None, anchors=3):
    return SimpleNamespace(mode=mode, no_reuse_reason=reason, no_reuse_placeholder=placeholder, anchors_in_pool=anchors)


def test_every_placeholder_has_its_kind():
    answer, result = answer_placeholder("3"), condition_placeholder("2")
    later = [in_next_round(answer), in_next_round(in_next_round(result))]
    assert [placeholder_kind(name) for name in ("user_question", answer, result, *later)] == [
        "question", "answer", "tool", "history", "history",
    ]  # fmt: skip


def test_turns_are_counted_by_reason_and_kind():
    turns = [
        turn("reuse"),
        turn("dense", "too_long", "agent_2_current"),
        turn("dense", "too_long", "user_question"),
        turn("partial", "refused", "user_question"),
        turn("dense", "too_long", "agent_1_current"),
        turn("dense", "cold", "user_question", anchors=0),
        turn("dense", anchors=None),
    ]
    assert list((count_accounts(turns) or {}).items()) == [
        (REUSED, 1),
        (("cold", "question"), 1),
        (("too_long", "question"), 1),
        (("too_long", "answer"), 2),
        (("refused", "question"), 1),
    ]


def test_results_without_reasons_hold_no_account():
    old = [turn("reuse"), turn("dense"), turn("dense")]
    assert count_accounts(old) is count_accounts([]) is count_accounts([turn("dense", anchors=None)]) is None
    assert count_accounts([turn("reuse")]) == {REUSED: 1}, "nothing is missing"
    mixed = count_accounts([*old, turn("dense", "refused", "user_question")])
    assert mixed == {REUSED: 1, ("refused", "question"): 1, UNRECORDED: 2}


def test_every_reason_of_the_columns_is_known():
    assert set(NoReuseReason.__args__) == set(REASONS)
    every = [
        turn("dense", reason, name) for reason in REASONS for name in (None, "user_question", "condition_1_current")
    ]
    counted = count_accounts(every)
    assert counted is not None
    assert sum(counted.values()) == len(every)
    assert {kind for _, kind in counted} <= set(KINDS)
    with pytest.raises(AttributeError):
        count_accounts([object()])  # type: ignore[list-item]
