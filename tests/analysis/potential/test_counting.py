"""Logs whose accounts can be worked out by hand, and others against a slow count."""

import itertools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.potential import counting, prefix_cache
from analysis.potential.account import Account, Tally
from analysis.potential.counting import account_of
from harness.traces.call import BlockCall, Call, Message


def words(start: int, count: int) -> str:
    """Text of ``count`` tokens that stands nowhere else: each word has three letters."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    found = itertools.islice(itertools.product(letters, repeat=3), start, start + count)
    return " ".join("".join(word) for word in found)


def call(agent: str, *messages: tuple[str, Any], answer: str | None = None, **others: Any) -> Call:
    """A call whose messages are given as role and text, or role and parts."""
    return Call(
        place="here",
        conversation=others.pop("conversation", "c"),
        agent=agent,
        messages=tuple(
            Message(role, (content,) if isinstance(content, str) else tuple(content)) for role, content in messages
        ),
        answer=answer,
        **others,
    )


SYSTEM_A, SYSTEM_B = words(0, 50), words(100, 50)
QUESTION, REPORT, MORE = words(200, 40), words(300, 60), words(400, 40)


def test_an_answer_and_a_question_in_another_agents_prompt() -> None:
    """Catches reuse that is credited to the wrong agent, and markup that counts as reused.

    The prompts have 1 + 50 + 1 + 40 + 1 tokens, and 1 + 50 + 1 + 40 + 60 + 1, of which the first is the same.
    """
    account = account_of(
        [
            call("a", ("system", SYSTEM_A), ("user", QUESTION), answer=REPORT),
            call("b", ("system", SYSTEM_B), ("user", [QUESTION, REPORT]), answer=MORE),
        ],
        block=1,
    )
    assert account.agents == {
        "a": Tally(calls=1, prompt=93, output=60),
        "b": Tally(calls=1, prompt=153, exact_prefix=1, whole_answers=60, whole_inputs=40, output=40),
    }
    assert account.total.new == 93 + 52
    assert account.pairs == {("input: user", "b"): 40, ("a", "b"): 60}


def test_what_lies_within_text_is_found_too() -> None:
    """Catches an analysis that compares messages alone. A question within a longer message is a fragment of it."""
    account = account_of(
        [
            call("a", ("user", f"Task: {QUESTION} Go on."), answer=REPORT),
            call("b", ("user", f"Please look at this. {QUESTION} Report of a: {REPORT} Now answer.")),
        ],
        block=1,
    )
    tally = account.agents["b"]
    assert (tally.whole_answers, tally.whole_inputs, tally.fragments) == (60, 0, 40)


@pytest.mark.parametrize(("block", "cached"), [(1, 153), (16, 144), (64, 128)])
def test_a_conversation_that_goes_on(block: int, cached: int) -> None:
    """Catches text of the shared prefix that counts as reused elsewhere, a prefix that ends before the answer, and
    blocks that are counted in part. The shared prefix has 1 + 50 + 1 + 40 + 1 + 60 = 153 tokens."""
    first = [("system", SYSTEM_A), ("user", QUESTION)]
    account = account_of(
        [call("a", *first, answer=REPORT), call("a", *first, ("assistant", REPORT), ("user", MORE))],
        block=block,
        shortest=8,
    )
    tally = account.agents["a"]
    assert tally.exact_prefix == cached
    assert tally.elsewhere == (153 - cached if 153 - cached >= 8 else 0)


def test_the_last_token_is_computed() -> None:
    """Catches a prompt that is saved whole."""
    twice = [call("a", ("user", QUESTION))] * 2
    assert account_of(twice, block=1).total.exact_prefix == 41
    assert account_of(twice, block=7).total.exact_prefix == 35


def test_reasoning_parts_an_answer_from_its_prompt() -> None:
    """Catches a prefix that runs through what later prompts leave out."""
    first = [("user", QUESTION)]
    after = call("a", *first, ("assistant", REPORT), ("user", MORE))
    for reasoning, prefix in (("", 102), (MORE, 42)):
        account = account_of([call("a", *first, answer=REPORT, reasoning=reasoning), after], block=1)
        assert account.total.exact_prefix == prefix
        assert account.total.whole_answers == (60 if reasoning else 0)


def test_a_prefix_of_another_conversation_is_saved_but_its_text_counts_only_across() -> None:
    """Catches a prefix cache per conversation, and text of others that counts without being asked for."""
    calls = [
        call("a", ("system", SYSTEM_A), ("user", QUESTION)),
        call("a", ("system", SYSTEM_A), ("user", MORE), conversation="d"),
        call("b", ("system", SYSTEM_B), ("user", [QUESTION, MORE]), conversation="d"),
    ]
    own, across = account_of(calls, block=1), account_of(calls, block=1, across=True)
    assert own.total.exact_prefix == across.total.exact_prefix == 52 + 1
    assert own.pairs == {("input: user", "b"): 40}
    assert across.pairs == {("input: user", "b"): 80}
    assert own.conversations == 2


def test_text_of_a_prefix_can_be_reused_elsewhere_later() -> None:
    """Catches text that is not kept because its first place in the conversation was saved by the prefix."""
    calls = [
        call("a", ("system", SYSTEM_A), ("user", QUESTION)),
        call("a", ("system", SYSTEM_A), ("user", MORE), conversation="d"),
        call("b", ("user", f"Judge this prompt: {SYSTEM_A}"), conversation="d"),
    ]
    assert account_of(calls, block=1).agents["b"].whole_inputs == 50


@pytest.mark.parametrize(("shared", "counted"), [(60, 40), (68, 32), (69, 0)])
def test_a_stretch_that_the_prefix_cuts(shared: int, counted: int) -> None:
    """Catches tokens that count as prefix and as reused, and a rest that is too short to count. The rest of a whole
    input is no fragment: a placeholder would hold all of it."""
    text = words(500, 100)
    begin = " ".join(text.split()[:shared])
    calls = [
        call("z", ("system", "x"), ("user", text)),
        call("x", ("user", f"{begin} {MORE}")),
        call("y", ("user", text)),
    ]
    tally = account_of(calls, block=1).agents["y"]
    assert (tally.exact_prefix, tally.whole_inputs, tally.fragments) == (1 + shared, counted, 0)


def test_prompts_logged_as_one_text() -> None:
    """Catches an answer that counts as reused elsewhere although a server would have had it in its prefix."""
    calls = [
        call("a", ("text", f"user: {QUESTION}"), answer=REPORT),
        call("a", ("text", f"user: {QUESTION}\n\nassistant: {REPORT}\n\nuser: {MORE}")),
        call("a", ("text", f"system: {MORE} {REPORT}")),
    ]
    account = account_of(calls, block=1)
    assert account.total.exact_prefix == 1 + 2 + 40 + 1 + 3 + 60 + 1
    assert account.total.whole_answers == 60


def test_what_the_log_lacks() -> None:
    account = account_of(
        [
            call("a", ("user", QUESTION), time=2.0, left_out=1),
            call("a", ("user", MORE), time=1.0, conversation=None),
            call("a", ("user", MORE), time=1.0),
            call("a"),
        ]
    )
    assert (account.unnamed, account.unanswered, account.out_of_time, account.left_out) == (1, 4, 1, 1)


def test_agents_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "MOST_NAMES", 2)
    account = account_of([call(name, ("user", QUESTION)) for name in "abcda"])
    assert {agent: tally.calls for agent, tally in account.agents.items()} == {"a": 2, "b": 1, "other agents": 2}


def test_memory_is_bounded_and_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches text that is kept for ever, and a full cache that passes for an infinite one."""
    monkeypatch.setattr(counting, "MOST_TOKENS", 150)
    calls = [call("a", ("user", words(100 * index, 50)), conversation=str(index)) for index in range(6)]
    late = call("b", ("system", "x"), ("user", words(500, 50)), conversation="5")
    account = account_of([*calls, late])
    assert account.forgotten == 0  # nothing that came back
    assert account.agents["b"].whole_inputs == 50
    account = account_of([*calls, call("b", ("system", "x"), ("user", words(0, 50)), conversation="0")])
    assert (account.forgotten, account.agents["b"].elsewhere) == (1, 0)
    assert account_of(calls, across=True).forgotten > 0
    assert not account.cache_was_full
    monkeypatch.setattr(prefix_cache.RecentNumbers.__init__, "__defaults__", (10,))
    assert account_of(calls, block=8).cache_was_full


def test_one_long_conversation_forgets_its_oldest_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "MOST_TOKENS", 120)
    calls = [call("a", ("user", words(100 * index, 50))) for index in range(4)]
    again = [call("b", ("system", "x"), ("user", words(start, 50))) for start in (300, 0)]
    account = account_of([*calls, *again])
    assert account.forgotten > 0
    assert account.agents["b"].whole_inputs == 50


def block_call(*ids: int, tokens: int, conversation: str | None = None) -> BlockCall:
    return BlockCall(place="here", conversation=conversation, agent="a", block_ids=ids, prompt_tokens=tokens)


def test_blocks() -> None:
    """Catches a block that counts as prefix behind another one, and a last block that counts in full."""
    account = account_of(
        [
            block_call(1, 2, 3, tokens=1400),
            block_call(1, 2, 4, tokens=1400),  # two blocks shared
            block_call(5, 2, 6, 3, tokens=1600),  # one seen behind another block, and the last, which is not whole
            block_call(1, 2, 3, tokens=1400),  # all seen; the last is computed
        ]
    )
    assert account.only_blocks
    assert account.block == 512
    assert account.total == Tally(calls=4, prompt=5800, exact_prefix=4 * 512, fragments=512)


VOCABULARY = ["".join(pair) for pair in itertools.product("abcd", repeat=2)]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 4, 16]), st.booleans())
def test_against_a_slow_count(seed: int, block: int, across: bool) -> None:
    """Catches tokens that are lost or counted twice, a prefix that is not the longest, reuse of what never stood
    before, and a switch that lowers what it should raise."""
    rng = random.Random(seed)
    texts = [" ".join(rng.choices(VOCABULARY, k=rng.randint(1, 60))) for _ in range(5)]
    calls = []
    for _ in range(12):
        messages = [("user", rng.choice(texts)) for _ in range(rng.randint(1, 4))]
        calls.append(call(rng.choice("ab"), *messages, answer=rng.choice(texts), conversation=rng.choice("cd")))
    account = account_of(calls, block=block, shortest=16, across=across)

    def common(a: list[str], b: list[str]) -> int:
        return next((at for at, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1]), min(len(a), len(b)))

    def slow_prefix() -> int:
        total, earlier = 0, []
        for one in calls:
            prompt = [token for m in one.messages for token in ("<user>", *m.text.split())] + ["<assistant>"]
            shared = [common(prompt[:-1], before) for before in earlier]
            total += max(shared, default=0) // block * block
            earlier.append([*prompt, *(one.answer or "").split()])
        return total

    assert account.total.exact_prefix == slow_prefix()
    assert account.total.prompt == sum(len(m.text.split()) + 1 for one in calls for m in one.messages) + len(calls)
    assert account.total.new >= 0
    for name in ("prompt", "exact_prefix", "whole_answers", "whole_inputs", "fragments", "output", "calls"):
        assert sum(getattr(tally, name) for tally in account.agents.values()) == getattr(account.total, name)
    assert sum(account.pairs.values()) == account.total.elsewhere
    _check_elsewhere(calls, account)
    own = account_of(calls, block=block, shortest=16)
    assert account.total.elsewhere >= own.total.elsewhere


def _check_elsewhere(calls: list[Call], account: Account) -> None:
    """Each token that stood nowhere before, within a stretch of 16 of its message, is new."""
    stood: set[tuple[str, ...]] = set()
    new = 0
    for one in calls:
        for message in one.messages:
            tokens = message.text.split()
            windows = [tuple(tokens[at : at + 16]) for at in range(len(tokens) - 15)]
            known = {at + offset for at, window in enumerate(windows) if window in stood for offset in range(16)}
            new += len(tokens) - len(known)
        for text in (*(message.text for message in one.messages), one.answer or ""):
            tokens = text.split()
            stood |= {tuple(tokens[at : at + 16]) for at in range(len(tokens) - 15)}
    # The prefix may save more, message by message, and a conversation knows less than all of them.
    assert account.total.new + account.total.exact_prefix >= new
