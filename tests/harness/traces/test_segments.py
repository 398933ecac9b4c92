"""Finished prompts become templates: what varies is in holes, and filling the holes gives the prompts of the log."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.traces import conversations as reading
from harness.traces.call import Call, Message, TraceError
from harness.traces.conversations import Conversation, read_conversations
from harness.traces.segments import SegmentedCall, SegmentedConversation, segmented

WORDS = ["river", "lamp", "stone", "field", "cloud", "track", "paper", "glass", "wheel", "bread", "light", "house"]
SHORTEST = 12


def words(seed: str, count: int = 20) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=count))


def call(agent: str, *messages: tuple[str, str], answer: str | None = None) -> Call:
    said = tuple(Message(role, (text,)) for role, text in messages)
    return Call(place="here", conversation="c", agent=agent, messages=said, answer=answer)


def shown(one: SegmentedCall) -> list[str]:
    """The segments of a call, holes in braces."""
    return [f"{{{value}}}" if kind == "hole" else value for _, parts in one.messages for kind, value in parts]


def contents(conversation: SegmentedConversation) -> dict[str, str]:
    answers = {one.answers: one.answer for one in conversation.calls if one.answer is not None}
    return {**conversation.inputs, **answers}


def two_agents(item: str) -> Conversation:
    """A question, embedded differently in the prompts of two agents, and the answer of one in the other's prompt."""
    question, answer = words(f"question {item}"), words(f"answer {item}")
    return Conversation(
        item,
        (
            call(
                "solver",
                ("system", "You solve."),
                ("user", f"Problem:\n{question}\n\nSolve it."),
                answer=f" {answer}\n",
            ),
            call(
                "judge",
                ("system", "You judge."),
                ("user", f"Read this:\n\n{question}\nSolver:\n{answer}\n\nIs it right?"),
                answer="yes",
            ),
        ),
    )


def test_answers_and_questions_become_holes_with_names_that_correspond() -> None:
    """Catches templates that differ from conversation to conversation, and white space that goes into a hole."""
    found, agents = segmented([two_agents("a"), two_agents("b")], SHORTEST)
    assert agents == ["solver", "judge"]
    for conversation, item in zip(found, "ab", strict=True):
        solver, judge = conversation.calls
        assert shown(solver) == ["You solve.", "Problem:\n", "{input_1_1}", "\n\nSolve it."]
        assert shown(judge) == [
            "You judge.",
            "Read this:\n\n",
            "{input_1_1}",
            "\nSolver:\n",
            "{answer_1_1}",
            "\n\nIs it right?",
        ]
        assert (solver.agent, judge.agent, solver.answers, judge.answers) == (1, 2, "answer_1_1", "answer_2_1")
        assert conversation.inputs == {"input_1_1": words(f"question {item}")}
        assert solver.answer == words(f"answer {item}")


def test_text_of_one_conversation_is_an_input_though_nobody_shares_it() -> None:
    """Catches a question that goes into the fixed text, so that no two prompts have a template in common."""
    found, _ = segmented(
        [Conversation(item, (call("a", ("system", "You plan."), ("user", f" {words(item)}\n")),)) for item in "abc"],
        SHORTEST,
    )
    assert [shown(one.calls[0]) for one in found] == [["You plan.", " ", "{input_1_1}", "\n"]] * 3


def test_what_most_conversations_share_is_fixed() -> None:
    """Catches instructions that two agents have in common and that pass for an input, and a question that two of many
    conversations have and that passes for fixed text."""
    rules = words("rules")

    def conversation(item: str, question: str) -> Conversation:
        said = [("system", f"You are {name}. {rules}") for name in ("one", "two")]
        return Conversation(
            item, tuple(call(f"agent {said_by[1][8:11]}", said_by, ("user", question)) for said_by in said)
        )

    questions = [words(seed) for seed in ("q", "q", "r", "s")]
    found, _ = segmented([conversation(str(index), text) for index, text in enumerate(questions)], SHORTEST)
    for one, question in zip(found, questions, strict=True):
        assert [shown(each) for each in one.calls] == [
            [f"You are one. {rules}", "{input_1_1}"],
            [f"You are two. {rules}", "{input_1_1}"],
        ]
        assert one.inputs == {"input_1_1": question}


def test_a_single_conversation() -> None:
    """Catches system prompts and texts of their own that become inputs where nothing can be compared."""
    found, _ = segmented([two_agents("a")], SHORTEST)
    assert shown(found[0].calls[0]) == ["You solve.", "Problem:\n", "{input_1_1}", "\n\nSolve it."]
    chat = [("system", words("system")), ("user", "Hello there.")]
    found, _ = segmented([Conversation("c", (call("a", *chat), call("a", *chat)))], SHORTEST)
    assert shown(found[0].calls[0]) == [words("system"), "Hello there."]


def test_overlapping_quotations_are_made_of_whole_holes() -> None:
    """Catches a reader of the second half of a text whose prompt then has no hole for it."""
    text = words("long", 40)
    half = " ".join(text.split()[20:])
    calls = [call(name, ("system", name), ("user", said)) for name, said in (("a", text), ("b", half), ("c", text))]
    (found,), _ = segmented([Conversation("c", tuple(calls))], SHORTEST)
    whole = ["{input_1_1}", " ", "{input_1_2}"]
    assert [shown(one)[1:] for one in found.calls] == [whole, ["{input_1_2}"], whole]


def test_short_answers_are_holes_only_where_they_stand_alone() -> None:
    calls = (
        call("a", ("user", "Is it?"), answer="yes"),
        call("b", ("user", "yes"), answer="I see."),
        call("c", ("user", "He said yes to it.")),
    )
    (found,), _ = segmented([Conversation("c", calls)], SHORTEST)
    assert shown(found.calls[1]) == ["{answer_1_1}"]
    assert shown(found.calls[2]) == ["He said yes to it."]


def test_only_an_earlier_answer_fills_a_hole() -> None:
    text = words("answer")
    calls = (call("a", ("user", text)), call("b", ("user", "Go on."), answer=text), call("c", ("user", f"{text}, so.")))
    (found,), _ = segmented([Conversation("c", calls)], SHORTEST)
    assert shown(found.calls[0]) == [text]
    assert shown(found.calls[2]) == ["{answer_2_1}", ", so."]


PIECES = [words(str(index), count) for index, count in enumerate((3, 8, 14, 14, 20, 30))]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_filling_the_holes_gives_the_log(seed: int) -> None:
    """Catches text that is lost, doubled or moved, and a hole with several contents."""
    rng = random.Random(seed)

    def text() -> str:
        chosen = rng.choices(PIECES, k=rng.randint(1, 4))
        return rng.choice(("", "\n", " ")) + "".join(piece + rng.choice((" ", "\n\n", ". ")) for piece in chosen)

    def one_call() -> Call:
        messages = [(rng.choice(("system", "user", "assistant")), text()) for _ in range(rng.randint(1, 3))]
        return call(rng.choice("ab"), *messages, answer=rng.choice((None, text(), rng.choice(PIECES))))

    log = [Conversation(str(index), tuple(one_call() for _ in range(4))) for index in range(rng.randint(1, 3))]
    found, _ = segmented(log, SHORTEST)
    for conversation, logged in zip(found, log, strict=True):
        known = contents(conversation)
        for one, before in zip(conversation.calls, logged.calls, strict=True):
            filled = [
                (role, "".join(known[value] if kind == "hole" else value for kind, value in parts))
                for role, parts in one.messages
            ]
            assert filled == [(message.role, message.text) for message in before.messages]


def test_reading_conversations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches conversations that run into each other, calls out of time, and a log that fills the memory."""
    path = tmp_path / "log.jsonl"
    records = [
        {"session_id": "a", "timestamp": 2, "input": "a2"},
        {"session_id": "b", "input": "b1"},
        {"input": "none"},
        {"session_id": "a", "timestamp": 1, "input": "a1"},
        {"session_id": "b", "timestamp": 0, "input": "b2"},
    ]
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))

    def read(limit: int | None = None) -> dict[str, list[str]]:
        found = read_conversations(path, limit)
        return {one.name: [each.messages[0].text for each in one.calls] for one in found}

    assert read() == {"a": ["a1", "a2"], "b": ["b1", "b2"], "unnamed": ["none"]}
    assert read(1) == {"a": ["a1", "a2"]}
    monkeypatch.setattr(reading, "MOST_CHARACTERS", 5)
    with pytest.raises(TraceError, match="line 3: the log is too long; allowed: 5 characters"):
        read()
    path.write_text('{"hash_ids": [1], "input_length": 5}\n')
    with pytest.raises(TraceError, match="line 1: hash_ids is given; allowed: messages"):
        read()
