"""What every tool returns: the text that agents read, and what became of the call."""

from dataclasses import dataclass

from harness.text import Storable

MAX_TEXT_CHARS = 2000
"""The longest text that goes into a prompt."""


@dataclass(frozen=True, slots=True)
class ToolResult(Storable):
    """One call of a tool. Its text enters prompts and records alike, storable (``harness/text.py``)."""

    text: str
    """What the agents read as the tool's answer. Never empty: a call without a result says so."""

    outcome: str
    """One word for the records; each tool lists its own."""


def clipped(text: str) -> str:
    """``text``, of which at most ``MAX_TEXT_CHARS`` are kept, with a note of how many were not."""
    left_out = len(text) - MAX_TEXT_CHARS
    return text if left_out <= 0 else f"{text[:MAX_TEXT_CHARS]}\n[{left_out} more characters]"
