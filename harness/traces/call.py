"""One logged call, whatever the form of its log."""

from dataclasses import dataclass

from kvcomm_core.config import shown


class TraceError(ValueError):
    """A log cannot be read. The message is one line with file, line, field, value and what is allowed."""


def refusal(place: str, field: str, value: object, allowed: str) -> TraceError:
    """Return the error for a field of a log."""
    return TraceError(f"{place}: {field} is {shown(value)}; allowed: {allowed}")


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a prompt."""

    role: str
    """``system``, ``user``, ``assistant``, ``tool`` and the like; ``tools`` for definitions, ``text`` for a prompt that
    was logged as one text."""
    parts: tuple[str, ...]
    """The parts of its text, as they were logged; none is empty. An assistant's message has one part."""

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call with its text."""

    place: str
    """File and line, with which every message about the call begins."""
    conversation: str | None
    """None if the log names none."""
    agent: str
    messages: tuple[Message, ...]
    """The prompt; none if the log holds an empty one."""
    answer: str | None
    """The model's answer, tool calls included; None if it was not logged."""
    reasoning: str = ""
    """Text that the model wrote before its answer. Later prompts leave it out."""
    time: float | None = None
    """In the log's own unit; None if unknown."""
    left_out: int = 0
    """Parts of the prompt that are no text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCall:
    """A call of which only the hashes of its blocks are known."""

    place: str
    conversation: str | None
    agent: str
    block_ids: tuple[int, ...]
    """An id per block of the prompt, in order; the last block may be partly filled."""
    prompt_tokens: int
    time: float | None = None

    @property
    def block_tokens(self) -> int:
        """Tokens of a block: the power of two that makes this many blocks of the prompt. A prompt of one block does
        not tell, and then it is the next power of two."""
        per_block = -(-self.prompt_tokens // len(self.block_ids))
        return 1 << (per_block - 1).bit_length()
