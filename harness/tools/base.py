"""The result of every tool: the text that agents read, and the outcome of the call."""

from dataclasses import dataclass

from harness.text import Storable

MAX_TEXT_CHARS = 2000
"""The longest text that goes into a prompt."""


@dataclass(frozen=True, slots=True)
class ToolResult(Storable):
    """One call of a tool. Its text is storable and enters both prompts and records (``harness/text.py``)."""

    text: str
    """The tool's answer, as the agents read it. Never empty: a call without a result says so."""

    outcome: str
    """One word for the records; each tool lists its own."""


def clipped(text: str) -> str:
    """Shorten ``text`` to at most ``MAX_TEXT_CHARS``, with a note of how many characters were dropped."""
    left_out = len(text) - MAX_TEXT_CHARS
    return text if left_out <= 0 else f"{text[:MAX_TEXT_CHARS]}\n[{left_out} more characters]"
