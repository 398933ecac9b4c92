"""Prompts as fixed text with holes, from a log that holds only the finished text.

Over a whole log, and thus in hindsight, the text of each prompt is divided:

- An earlier *answer* of the conversation, whole and to the letter, is a hole.
- Of the rest, an *input* that prompts of the conversation have in common is a hole in all of them, the first included
  (``common_inputs.py``).
- What is left is *fixed* text if most conversations have it, namely more than half of those with the agent that reads
  it. Other text is an input, too, although nobody else reads it: with it in a hole, the prompts of several
  conversations have the same fixed text. In turn, an input that most conversations have is fixed text. In a log of a
  single conversation, system prompts and what is not in common are fixed.

Holes are named by their place in the conversation, so that those of different conversations correspond:
``answer_2_1`` is the first answer of agent 2, ``input_2_3`` the third input that agent 2 was the first to read. White
space around a hole is fixed text.

This cannot represent an answer that is quoted in part, or changed: what is quoted stays text, or becomes an input.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.traces.call import Call
from harness.traces.chunks import Calls, Chunk, around, open_chunks, split_at_answers
from harness.traces.common_inputs import cut_common
from harness.traces.conversations import Conversation

Segment = tuple[Literal["text", "hole"], str]
"""A piece of fixed text, or the name of a placeholder."""

_OF_THE_SYSTEM = ("system", "developer", "tools")

IsFixed = Callable[[str, str, Chunk], bool]
"""Says whether a chunk in a prompt of an agent, in a message of a role, is fixed text."""


@dataclass(frozen=True, slots=True)
class SegmentedCall:
    """A call with its prompt as segments."""

    call: Call
    agent: int
    """The number of its agent, from 1, by first calls."""
    turn: int
    """Number of earlier calls of the agent in this conversation."""
    messages: tuple[tuple[str, tuple[Segment, ...]], ...]
    """Role and segments of each message."""
    answers: str
    """The placeholder that its answer fills."""

    @property
    def answer(self) -> str | None:
        """The logged answer without white space around it, as it fills the placeholder; None if there is none."""
        return None if self.call.answer is None else self.call.answer.strip()


@dataclass(frozen=True, slots=True)
class SegmentedConversation:
    """A conversation with its prompts as segments."""

    name: str
    calls: tuple[SegmentedCall, ...]
    inputs: dict[str, str]
    """The text of each placeholder that no answer fills."""


def segmented(conversations: Sequence[Conversation], shortest: int) -> tuple[list[SegmentedConversation], list[str]]:
    """Divide the prompts of a log, where inputs in common have at least ``shortest`` tokens. Return them, and the names
    of the agents by number."""
    agents: dict[str, int] = {}
    for conversation in conversations:
        for call in conversation.calls:
            agents.setdefault(call.agent, len(agents) + 1)
    divided = [_divided(conversation, agents, shortest) for conversation in conversations]
    is_fixed = _fixed_texts(conversations, divided)
    pairs = zip(conversations, divided, strict=True)
    return [_Naming(conversation, agents, is_fixed).name(calls) for conversation, calls in pairs], list(agents)


def _divided(conversation: Conversation, agents: dict[str, int], shortest: int) -> Calls:
    """Return the chunks of a conversation: answers, inputs in common, and the rest."""
    answers: dict[str, str] = {}
    turns: Counter[int] = Counter()
    calls = []
    for call in conversation.calls:
        calls.append([[split_at_answers(part, answers) for part in message.parts] for message in call.messages])
        agent = agents[call.agent]
        turns[agent] += 1
        if text := (call.answer or "").strip():
            answers.setdefault(text, _answer_name(agent, turns[agent]))
    cut_common(calls, shortest)
    return calls


def _answer_name(agent: int, turn: int) -> str:
    return f"answer_{agent}_{turn}"


def _fixed_texts(conversations: Sequence[Conversation], divided: Sequence[Calls]) -> IsFixed:
    """Count in how many conversations each agent reads each text. Return the function that tells by that."""
    having: Counter[tuple[str, str]] = Counter()
    speaking: Counter[str] = Counter()
    for conversation, calls in zip(conversations, divided, strict=True):
        read = {
            (call.agent, chunk.text.strip())
            for call, messages in zip(conversation.calls, calls, strict=True)
            for chunk in open_chunks(messages)
        }
        having.update(read)
        speaking.update({call.agent for call in conversation.calls})
    alone = len(conversations) == 1

    def is_fixed(agent: str, role: str, chunk: Chunk) -> bool:
        if alone:
            return role in _OF_THE_SYSTEM or not chunk.is_common
        return 2 * having[agent, chunk.text.strip()] > speaking[agent]

    return is_fixed


class _Naming:
    """Gives the inputs of a conversation their names."""

    def __init__(self, conversation: Conversation, agents: dict[str, int], is_fixed: IsFixed) -> None:
        self._conversation, self._agents, self._is_fixed = conversation, agents, is_fixed
        self._names: dict[str, str] = {}
        """By text."""
        self._counts: Counter[int] = Counter()

    def name(self, divided: Calls) -> SegmentedConversation:
        """Return the conversation with its prompts as segments."""
        turns: Counter[int] = Counter()
        calls = []
        for call, messages in zip(self._conversation.calls, divided, strict=True):
            agent = self._agents[call.agent]
            turns[agent] += 1
            segments = tuple(
                (
                    message.role,
                    _merged(
                        segment
                        for part in parts
                        for chunk in part
                        for segment in self._segments(call.agent, message.role, chunk)
                    ),
                )
                for message, parts in zip(call.messages, messages, strict=True)
            )
            answers = _answer_name(agent, turns[agent])
            calls.append(SegmentedCall(call, agent, turns[agent] - 1, segments, answers))
        inputs = {name: text for text, name in self._names.items()}
        return SegmentedConversation(self._conversation.name, tuple(calls), inputs)

    def _segments(self, agent: str, role: str, chunk: Chunk) -> Iterator[Segment]:
        core = chunk.text.strip()
        if chunk.hole is not None:
            yield "hole", chunk.hole
        elif not core or (core not in self._names and self._is_fixed(agent, role, chunk)):
            yield "text", chunk.text
        else:
            if core not in self._names:
                reader = self._agents[agent]
                self._counts[reader] += 1
                self._names[core] = f"input_{reader}_{self._counts[reader]}"
            for piece in around(chunk.text, core, self._names[core]):
                yield ("hole", piece.hole) if piece.hole else ("text", piece.text)


def _merged(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """Return segments with adjacent texts joined: where they were cut differs from conversation to conversation."""
    merged: list[Segment] = []
    for kind, value in segments:
        if kind == "text" and merged and merged[-1][0] == "text":
            merged[-1] = "text", merged[-1][1] + value
        else:
            merged.append((kind, value))
    return tuple(merged)
