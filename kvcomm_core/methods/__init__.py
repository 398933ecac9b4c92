"""Methods: each is one way to obtain the KV of a prompt.

The engine times every method on the same code path: it fills the template, lets the method put whatever KV it can
into the buffer (:meth:`Session.prefill`), runs the remaining tokens through the model and reads the first token.
What a method keeps for later (:meth:`Session.learn`) happens after the answer is decoded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from kvcomm_core.decode import Answer
from kvcomm_core.kv import KVBuffer
from kvcomm_core.template import Prompt, Template, TokenIds
from kvcomm_core.timing import Stopwatch

Mode = Literal["dense", "reuse", "partial"]


@dataclass(frozen=True, slots=True)
class AgentTurn:
    """One agent's turn as a method sees it."""

    agent_id: str
    template: Template
    prompt: Prompt
    buffer: KVBuffer
    """One row, empty at first, with room for the prompt and the answer."""
    stopwatch: Stopwatch


@dataclass(frozen=True, slots=True)
class Prefill:
    """What a method did before the first forward pass. ``buffer.length`` tells how many tokens it put there."""

    mode: Mode
    reused_text_tokens: int = 0
    """Prompt tokens in text segments whose KV was not recomputed in this turn."""
    reused_placeholder_tokens: int = 0
    """The same in placeholders."""
    anchors: int | None = None
    """Anchors in the pools of this turn's placeholders; None for a method without pools."""
    pool_bytes: int | None = None
    """Bytes of all pools when the request opened; None for a method without pools."""


class Session(Protocol):
    """A method's state within one request."""

    def prefill(self, turn: AgentTurn) -> Prefill:
        """Put the KV of the first tokens of the prompt, fewer than all, into ``turn.buffer``."""

    def learn(self, turn: AgentTurn, prefill: Prefill, answer: Answer) -> None:
        """Keep what later turns may reuse. The buffer holds the KV of the whole prompt and the whole answer."""

    def close(self) -> None:
        """Publish what this request learnt; not called if the request failed."""


class Method(Protocol):
    """A method with its state across requests."""

    needs_answer_kv: bool
    """Whether ``learn`` reads the KV of the answer's last token, which costs one forward pass of its own when the
    answer was cut off by length."""

    @property
    def pool_bytes(self) -> int | None:
        """Bytes of all pools now; None for a method without pools."""

    def register(self, agent_id: str, template: Template, filler: TokenIds) -> None:
        """Get ready for an agent. ``filler``: neutral token ids to stand in its holes."""

    def open(self) -> Session:
        """Begin a request."""


def answer_placeholder(agent_id: str) -> str:
    """The placeholder that an agent's answer fills in the prompts of its readers."""
    return f"agent_{agent_id}_current"


def distinct(placeholders: Sequence[str]) -> list[str]:
    """Each placeholder once, in order of first occurrence."""
    return list(dict.fromkeys(placeholders))
