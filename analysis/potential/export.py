"""Our own conversations as a log of chat calls, for ``kvcomm potential`` and for other engines.

A line is a turn of a trial, in the order of its conversations. The rendered prompt is taken apart into messages, and
these in hindsight into parts: answers, questions and tool results that stand in several prompts, and the text around
them (``harness/traces/segments.py``).
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from analysis.potential.prompt_markup import messages_of
from analysis.results import Results
from harness.traces.call import Call, Message
from harness.traces.conversations import Conversation
from harness.traces.segments import Segment, SegmentedConversation, segmented
from kvcomm_core.config import shown

Form = Literal["chat", "aiperf", "lmcache"]
"""``chat``: messages with the answer. ``aiperf``: its ``mooncake_trace`` with messages, which are replayed as they are.
``lmcache``: its ``trace.jsonl``, the whole prompt as one text."""

Turn = dict[str, Any]
"""A row of a table by column."""

SHORTEST = 32
"""Estimated tokens from which text that prompts have in common is a part of its own."""


class ExportError(ValueError):
    """A trial cannot be exported; the message is one line."""


@dataclass(frozen=True, slots=True)
class Exported:
    """Counts of what was written."""

    calls: int
    conversations: int
    in_one_message: int
    """Prompts whose markup is not known, each written as one message."""


def export_trace(results: Results, path: Path, *, trial: str | None = None, form: Form = "chat") -> Exported:
    """Write the turns of a trial to ``path``. Without ``trial`` there must be one trial with text. Raise
    ``ExportError``, ``OSError`` if the file cannot be written, or ``StoreError`` for damaged results."""
    row, turns = _chosen(results.each_trial_once(), trial)
    calls, unknown = _calls(turns)
    found, _ = segmented([Conversation(name, tuple(own)) for name, own in calls.items()], SHORTEST)
    by_name = {one.name: one for one in found}
    with path.open("w", encoding="utf-8") as file:
        for line in _lines(turns, by_name, str(row["model"]), form):
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return Exported(len(turns), len(calls), unknown)


def _chosen(results: Results, trial: str | None) -> tuple[Turn, list[Turn]]:
    """Return the row of the trial, and the turns of its method that have text, in the order of the conversations."""
    turns = results.turns_with_prompts
    turns = turns[turns["prompt_text"].notna() & turns["output_text"].notna()]
    known = results.ok_trials[results.ok_trials["trial_id"].isin(turns["trial_id"])]
    if trial is not None:
        known = known[known["trial_id"] == trial]
        if known.empty:
            raise ExportError(f"--trial is {shown(trial)}; allowed: the id of a trial that ended well and has text")
    if len(known) != 1:
        columns = (known["trial_id"], known["workload"], known["method"])
        named = [f"{trial_id} ({workload}, {method})" for trial_id, workload, method in zip(*columns, strict=True)]
        allowed = (
            f"one, chosen by --trial: {', '.join(named[:8])}{', ...' if len(named) > 8 else ''}" if named else "one"
        )
        raise ExportError(f"{len(named)} trials with text are in the results; allowed: {allowed}")
    row: Turn = dict(known.iloc[0])
    own = turns[(turns["trial_id"] == row["trial_id"]) & (turns["arm"] == row["method"])]
    return row, [{str(key): value for key, value in turn.items()} for turn in own.to_dict("records")]


def _calls(turns: Sequence[Turn]) -> tuple[dict[str, list[Call]], int]:
    """Return the calls of each conversation, and the number of prompts with unknown markup."""
    names = _agent_names(turns)
    found: dict[str, list[Call]] = {}
    unknown = 0
    for index, turn in enumerate(turns):
        said = messages_of(turn["prompt_text"])
        unknown += said is None
        call = Call(
            place=f"turn {index}",
            conversation=turn["item_id"],
            agent=names[turn["agent_index"]],
            messages=tuple(Message(role, (text,)) for role, text in said or [("user", turn["prompt_text"])] if text),
            answer=turn["output_text"],
        )
        found.setdefault(turn["item_id"], []).append(call)
    return found, unknown


def _agent_names(turns: Sequence[Turn]) -> dict[int, str]:
    """Return a name for each agent: its role, with its number where several agents have the role."""
    roles = {turn["agent_index"]: turn["agent_role"] for turn in turns}
    count = Counter(roles.values())
    return {index: role if count[role] == 1 else f"{role} {index}" for index, role in roles.items()}


def _lines(
    turns: Sequence[Turn], conversations: dict[str, SegmentedConversation], model: str, form: Form
) -> Iterator[dict[str, Any]]:
    """Yield the objects of the log."""
    calls = {name: iter(one.calls) for name, one in conversations.items()}
    contents = {name: _contents(one) for name, one in conversations.items()}
    for index, turn in enumerate(turns):
        name, text, answer = turn["item_id"], turn["prompt_text"], turn["output_text"]
        call = next(calls[name])
        if form == "lmcache":
            yield {"timestamp": index, "input": text, "output": answer, "session_id": name}
            continue
        messages = [{"role": role, "content": _content(parts, contents[name])} for role, parts in call.messages]
        if form == "aiperf":
            yield {"session_id": name, "messages": messages, "output_length": max(1, int(turn["output_tokens"]))}
            continue
        tool: dict[str, str] = {} if pd.isna(turn["tool"]) else {"tool": turn["tool"], "tool_text": turn["tool_text"]}
        yield {
            "session_id": name,
            "agent": call.call.agent,
            "model": model,
            "messages": messages,
            "response": {"role": "assistant", "content": answer},
            "metadata": {"trial_id": turn["trial_id"], "round": int(turn["round"]), **tool},
        }


def _contents(conversation: SegmentedConversation) -> dict[str, str]:
    """Return the text of each placeholder."""
    answers = {call.answers: call.answer for call in conversation.calls if call.answer is not None}
    return {**conversation.inputs, **answers}


def _content(segments: Sequence[Segment], contents: dict[str, str]) -> str | list[dict[str, str]]:
    """Return a message's text, in parts if it has several."""
    texts = [contents[value] if kind == "hole" else value for kind, value in segments]
    return "".join(texts) if len(texts) < 2 else [{"type": "text", "text": text} for text in texts]
