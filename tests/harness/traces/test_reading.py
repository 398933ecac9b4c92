"""Logs in all forms become the same calls, and a faulty line is named."""

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from harness.traces.call import BlockCall, Call, TraceError
from harness.traces.reading import read_calls

QUESTION = [{"role": "system", "content": "You plan."}, {"role": "user", "content": "Find a train."}]
ANSWERED = {"role": "assistant", "content": "First the timetable."}
TOOL_CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"at": "board"}'}}


def log(folder: Path, *records: Any, name: str = "log.jsonl") -> Path:
    """Write records, or lines as they are."""
    path = folder / name
    lines = [one if isinstance(one, str) else json.dumps(one) for one in records]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def only(path: Path, **options: bool) -> Call:
    """The only call of a log."""
    (call,) = read_calls(path, **options)
    assert isinstance(call, Call)
    return call


def said(call: Call) -> list[tuple[str, tuple[str, ...]]]:
    return [(message.role, message.parts) for message in call.messages]


PLAIN = [("system", ("You plan.",)), ("user", ("Find a train.",))]
FORMS: dict[str, dict[str, Any]] = {
    "a message": {"messages": QUESTION, "response": ANSWERED},
    "text": {"messages": QUESTION, "response": "First the timetable."},
    "a completion": {"messages": QUESTION, "response": {"id": "x", "choices": [{"index": 0, "message": ANSWERED}]}},
    "choices": {"messages": QUESTION, "choices": [{"finish_reason": "stop", "message": ANSWERED}]},
    "output": {"messages": QUESTION, "output": "First the timetable."},
    "completion": {"messages": QUESTION, "completion": "First the timetable."},
    "the last message": {"messages": [*QUESTION, ANSWERED]},
    "request and response": {
        "request": {"model": "m", "messages": QUESTION},
        "response": {"choices": [{"message": ANSWERED}]},
    },
    "input and output": {"input": {"messages": QUESTION}, "output": {"choices": [{"message": ANSWERED}]}},
    "aiperf's payload": {"payload": {"messages": QUESTION}, "response": ANSWERED},
    "OpenAI's responses": {
        "instructions": "You plan.",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "Find a train."}]}],
        "output": [
            {"type": "reasoning", "summary": []},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "First the timetable."}],
            },
        ],
    },
    "Anthropic's": {
        "system": [{"type": "text", "text": "You plan."}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Find a train."}]}],
        "response": {
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "First the timetable."}],
        },
    },
}


@pytest.mark.parametrize("record", FORMS.values(), ids=FORMS)
def test_forms_of_chat_calls(tmp_path: Path, record: dict[str, Any]) -> None:
    """Catches a form whose answer is missed, or taken for a part of the prompt."""
    call = only(log(tmp_path, record))
    assert said(call) == PLAIN
    assert call.answer == "First the timetable."


def test_a_call_reads_the_same_as_an_answer_and_in_a_later_prompt(tmp_path: Path) -> None:
    """Catches a tool call whose text differs between the two, so that a prefix would seem to end there."""
    answer = {"role": "assistant", "content": "Let me look.", "tool_calls": [TOOL_CALL]}
    result = {"role": "tool", "tool_call_id": "1", "content": "08:15 platform 4"}
    first, second = read_calls(
        log(
            tmp_path,
            {"messages": QUESTION, "response": answer},
            {"messages": [*QUESTION, answer, result], "output": "ok"},
        )
    )
    assert isinstance(first, Call)
    assert isinstance(second, Call)
    assert first.answer == 'Let me look.look({"at": "board"})'
    assert said(second)[2:] == [("assistant", (first.answer,)), ("tool", ("08:15 platform 4",))]
    blocks = [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "look", "input": {"at": "board"}}]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "1", "content": "08:15"}, {"type": "image"}],
        },
    ]
    call = only(log(tmp_path, {"messages": [*QUESTION, *blocks], "output": "ok"}))
    assert said(call)[2:] == [("assistant", ('look({"at": "board"})',)), ("user", ("08:15",))]
    assert call.left_out == 1


def test_parts_tools_reasoning_and_names(tmp_path: Path) -> None:
    """Catches parts that are glued together, and names that are looked for in one place only."""
    tool = {"type": "function", "function": {"name": "look"}}
    parts = [{"type": "text", "text": "Task: "}, {"type": "text", "text": "find a train"}]
    call = only(
        log(
            tmp_path,
            {
                "messages": [{"role": "user", "content": parts}],
                "tools": [tool],
                "metadata": {"session_id": 7, "agent": {"name": "planner"}, "created_at": "2026-01-01T00:00:00+00:00"},
                "response": {"role": "assistant", "content": "ok", "reasoning_content": "Hm."},
            },
        )
    )
    assert said(call) == [("tools", (json.dumps(tool),)), ("user", ("Task: ", "find a train"))]
    assert (call.conversation, call.agent, call.time) == ("7", "planner", 1767225600.0)
    assert (call.answer, call.reasoning) == ("ok", "Hm.")


def test_lmcache(tmp_path: Path) -> None:
    call = only(log(tmp_path, {"timestamp": 3, "input": "user: Hi", "output": "Hello", "session_id": 0}))
    assert said(call) == [("text", ("user: Hi",))]
    assert (call.answer, call.conversation, call.agent, call.time) == ("Hello", "0", "agent", 3.0)


def test_agents_without_a_name_are_named_after_their_system_prompts(tmp_path: Path) -> None:
    """Catches one agent for all, and names without bound."""
    systems = ["A", "B", "A", *(f"C{index}" for index in range(60))]
    records = [{"messages": [{"role": "system", "content": text}, QUESTION[1]]} for text in systems]
    names = [call.agent for call in read_calls(log(tmp_path, *records))]
    assert names[:4] == ["system prompt 1", "system prompt 2", "system prompt 1", "system prompt 3"]
    assert len(set(names)) == 51
    assert names[-1] == "other system prompts"


def test_what_holds_only_what_is_new(tmp_path: Path) -> None:
    """Catches a turn without what came before it, and conversations that run into each other."""
    new = [{"role": "user", "content": "And back?"}]
    both = {"session_id": "s", "message_mode": "delta"}
    one, other, two = read_calls(
        log(
            tmp_path,
            {**both, "messages": QUESTION, "response": ANSWERED},
            {**both, "session_id": "t", "messages": new},
            {**both, "messages": new},
        )
    )
    assert isinstance(one, Call)
    assert isinstance(other, Call)
    assert isinstance(two, Call)
    assert said(two) == [*PLAIN, ("assistant", ("First the timetable.",)), ("user", ("And back?",))]
    assert said(other) == [("user", ("And back?",))]
    sglang = {
        "metadata": {},
        "conversations": [[{"messages": QUESTION, "prompt_tokens": 9}, {"messages": new}], [{"messages": new}]],
    }
    for text in (json.dumps(sglang), json.dumps(sglang, indent=1)):
        calls = list(read_calls(log(tmp_path, text)))
        assert [call.conversation for call in calls] == ["0", "0", "1"]
        assert said(calls[1]) == [*PLAIN, ("user", ("And back?",))]  # type: ignore[arg-type]
    turns = {"session_id": "s", "turns": [{"text": "Find a train."}, {"messages": new}]}
    calls = list(read_calls(log(tmp_path, turns)))
    assert said(calls[1]) == [("user", ("Find a train.",)), ("user", ("And back?",))]  # type: ignore[arg-type]
    inputs = {"data": [{"session_id": "s", "payloads": [{"messages": QUESTION}]}]}
    assert said(only(log(tmp_path, json.dumps(inputs, indent=1)))) == PLAIN
    assert said(only(log(tmp_path, json.dumps([{"messages": QUESTION}], indent=1)))) == PLAIN


@pytest.mark.parametrize(("length", "ids", "tokens"), [(655, 2, 512), (6758, 14, 512), (521, 33, 16), (1024, 2, 512)])
def test_blocks(tmp_path: Path, length: int, ids: int, tokens: int) -> None:
    """Catches a wrong size of the blocks, which the trace does not state (Mooncake's have 512, Bailian's 16)."""
    record = {"timestamp": 0, "input_length": length, "output_length": 5, "hash_ids": list(range(ids))}
    (call,) = read_calls(log(tmp_path, record))
    assert isinstance(call, BlockCall)
    assert call.block_tokens == tokens


def test_by_time(tmp_path: Path) -> None:
    """Catches calls that lose their line numbers, and a sort that shuffles equal times."""
    records = [{"timestamp": time, "input": str(index)} for index, time in enumerate((3, 1, 2, 1))]
    path = log(tmp_path, records[0], "", *records[1:])
    found = [(call.place.rpartition(" ")[2], said(call)[0][1][0]) for call in read_calls(path, by_time=True)]  # type: ignore[arg-type]
    assert found == [("3", "1"), ("5", "3"), ("4", "2"), ("1", "0")]
    with pytest.raises(TraceError, match=r"log.jsonl line 1: timestamp is None; allowed: a number or an ISO 8601 time"):
        list(read_calls(log(tmp_path, {"input": "x"}), by_time=True))


def test_gzip_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + json.dumps({"messages": QUESTION}).encode()))
    assert said(only(path)) == PLAIN


def test_any_text_of_a_model_is_read(tmp_path: Path) -> None:
    """Catches a log that cannot be read because a model wrote half a surrogate pair, or a tool NaN."""
    call = only(log(tmp_path, r'{"input": "a\ud83d", "output": "\udc00b", "score": NaN, "session_id": "\ud83d"}'))
    assert said(call) == [("text", (r"a\ud83d",))]
    assert (call.answer, call.conversation) == (r"\udc00b", r"\ud83d")


BAD: dict[str, tuple[Any, str]] = {
    "no JSON": ("{nonsense}", r"line 2: not JSON (Expecting property name"),
    "cut short": ('{"messages": [', r"line 2: not JSON (Expecting value"),
    "no object": ("5", "line 2: 5; allowed: one JSON object per line"),
    "no prompt": ({"response": "x"}, "line 2: keys is ['response']; allowed: messages, input, prompt, text_input"),
    "no messages": ({"messages": []}, "line 2: messages is []; allowed: a list of messages, at least one"),
    "a wrong message": ({"messages": ["x"]}, "line 2: messages[0] is 'x'; allowed: a message"),
    "no role": ({"messages": [{"content": "x"}]}, "line 2: messages[0].role is None; allowed: a name such as system"),
    "wrong content": (
        {"messages": [{"role": "user", "content": 5}]},
        "line 2: messages[0].content is 5; allowed: text, a list of parts, or null",
    ),
    "a wrong part": (
        {"messages": [{"role": "user", "content": [5]}]},
        "line 2: messages[0].content[0] is 5; allowed: text, or a part",
    ),
    "a wrong answer": ({"messages": QUESTION, "response": 5}, "line 2: response is 5; allowed: text, a message"),
    "a wrong choice": (
        {"messages": QUESTION, "response": {"choices": [{"message": {"content": 5}}]}},
        "line 2: response.choices[0].message.content is 5; allowed: text",
    ),
    "a wrong name": ({"messages": QUESTION, "agent": [1]}, "line 2: agent is [1]; allowed: a name or a number"),
    "wrong tools": ({"messages": QUESTION, "tools": 5}, "line 2: tools is 5; allowed: a list of tools"),
    "wrong blocks": ({"hash_ids": [], "input_length": 5}, "line 2: hash_ids is []; allowed: a list of ids"),
    "too many blocks": ({"hash_ids": [1, 2], "input_length": 1}, "line 2: input_length is 1; allowed: the tokens"),
    "delta without a session": (
        {"messages": QUESTION, "message_mode": "delta"},
        "line 2: session_id is None; allowed: a name",
    ),
    "forks": (
        {"session_id": "s", "turns": [{"messages": QUESTION, "forks": ["t"]}]},
        "line 2 turn 1: forks is ['t']; allowed: none",
    ),
}


@pytest.mark.parametrize(("record", "message"), BAD.values(), ids=BAD)
def test_a_faulty_line_is_named(tmp_path: Path, record: Any, message: str) -> None:
    """Catches a traceback, a message without the line or the field, and one of several lines."""
    path = log(tmp_path, {"messages": QUESTION}, record)
    with pytest.raises(TraceError) as caught:
        list(read_calls(path))
    assert str(caught.value).startswith(f"{path} {message}")
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for name, content, message in (
        ("missing", None, "cannot be read: No such file or directory"),
        ("empty", b"\n\n", "holds no calls; allowed: one JSON object per line, at least one"),
        ("damaged.gz", b"nonsense", "cannot be read: Not a gzipped file (b'no')"),
    ):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(TraceError) as caught:
            list(read_calls(path))
        assert str(caught.value) == f"{path}: {message}"


def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    """Catches a log that is read whole: 30 MB are read in less than two."""
    path = tmp_path / "log.jsonl"
    with path.open("w") as file:
        for index in range(1500):
            file.write(json.dumps({"input": f"{index} " * 4000, "output": "x", "session_id": index}) + "\n")
    assert path.stat().st_size > 25e6
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_calls(path)) == 1500
        assert tracemalloc.get_traced_memory()[1] < 2e6
    finally:
        tracemalloc.stop()
