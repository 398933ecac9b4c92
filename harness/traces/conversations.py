"""The conversations of a log, held in memory."""

from dataclasses import dataclass
from pathlib import Path

from harness.traces.call import Call, TraceError
from harness.traces.reading import read_calls

MOST_CHARACTERS = 256_000_000
"""Maximum number of characters in all prompts and answers of the chosen conversations."""

UNNAMED = "unnamed"
"""Name of the conversation of all calls of which the log names none."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """The calls of one conversation, in the order in which they are taken."""

    name: str
    calls: tuple[Call, ...]


def read_conversations(path: Path, limit: int | None = None) -> list[Conversation]:
    """Return the first ``limit`` conversations of a log, or all, in the order in which they begin.

    The calls of a conversation are sorted by time if all have one; else they have the order of the file. Raise
    ``TraceError``.
    """
    found: dict[str, list[Call]] = {}
    characters = 0
    for call in read_calls(path):
        if not isinstance(call, Call):
            raise TraceError(f"{call.place}: hash_ids is given; allowed: messages, since hashes cannot be replayed")
        name = call.conversation or UNNAMED
        if name not in found and limit is not None and len(found) == limit:
            continue
        found.setdefault(name, []).append(call)
        characters += sum(len(message.text) for message in call.messages) + len(call.answer or "")
        if characters > MOST_CHARACTERS:
            allowed = f"{MOST_CHARACTERS:,} characters in the conversations that are replayed"
            raise TraceError(f"{call.place}: the log is too long; allowed: {allowed}; a limit takes the first ones")
    return [Conversation(name, _by_time(calls)) for name, calls in found.items()]


def _by_time(calls: list[Call]) -> tuple[Call, ...]:
    times = [call.time for call in calls]
    if None in times:
        return tuple(calls)
    return tuple(sorted(calls, key=lambda call: call.time or 0.0))
