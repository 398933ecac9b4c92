"""The account of a log: where each token of each prompt could have come from.

A prompt token counts once, as the first of these that holds:

1. *exact prefix*: it lies in the longest prefix that the prompt shares with any earlier prompt and its answer, of any
   conversation. That is what a server's prefix cache saves: whole blocks, all agents sharing one cache.
2. *reusable elsewhere*: it lies in a stretch of at least ``shortest`` tokens that stood before in another context of
   the same conversation, or, with ``across``, of another one. The stretch is a *whole answer* or a *whole input* (a
   message, or a part of one, as logged), which is what KVCOMM's placeholders hold, or else a *fragment* of one.
3. *new*: it must be computed.

Each message has one token of markup for its role, and the prompt one more for the role of the answer. Markup is never
reusable elsewhere, so a stretch ends with its message. The texts of one prompt are not compared with each other.
"""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Tally:
    """Tokens of prompts, by what could have become of them."""

    calls: int = 0
    prompt: int = 0
    exact_prefix: int = 0
    whole_answers: int = 0
    whole_inputs: int = 0
    fragments: int = 0
    output: int = 0
    """Tokens of the logged answers."""

    @property
    def elsewhere(self) -> int:
        """Tokens that are reusable elsewhere."""
        return self.whole_answers + self.whole_inputs + self.fragments

    @property
    def new(self) -> int:
        """Tokens that must be computed."""
        return self.prompt - self.exact_prefix - self.elsewhere

    def share(self, tokens: int) -> float | None:
        """Return tokens over prompt tokens; None without prompts."""
        return tokens / self.prompt if self.prompt else None

    def to_dict(self) -> dict[str, int]:
        """Return plain data."""
        return {**asdict(self), "elsewhere": self.elsewhere, "new": self.new}


@dataclass(slots=True)
class Account:
    """The reuse that a log allows, and the rules by which it was counted."""

    block: int
    """Tokens of a block of the prefix cache. If ``only_blocks``, the log's own blocks count instead."""
    shortest: int
    """Tokens from which a stretch counts."""
    across: bool
    """Whether text of other conversations counts, where that of the same conversation ends."""
    tokens: str
    """The way in which tokens were counted."""
    total: Tally = field(default_factory=Tally)
    agents: dict[str, Tally] = field(default_factory=dict)
    """By reader, in order of their first calls."""
    pairs: dict[tuple[str, str], int] = field(default_factory=dict)
    """Tokens reusable elsewhere by producer and reader. A producer is an agent, for its answers, or the role of an
    input, such as ``input: user``."""
    conversations: int = 0
    unnamed: int = 0
    """Calls of which the log names no conversation; together they count as one."""
    unanswered: int = 0
    """Calls whose answer was not logged, so that nothing is known to come from it."""
    out_of_time: int = 0
    """Calls that stand behind a later one of their conversation."""
    left_out: int = 0
    """Parts of prompts that are no text."""
    forgotten: int = 0
    """Times that text was forgotten for want of memory while its conversation went on; with ``across`` also the older
    half of all text."""
    cache_was_full: bool = False
    """Whether the prefix cache was full, so that it was not infinite."""
    only_blocks: bool = False
    """Whether the log holds hashes of blocks in place of text."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        plain = {key: value for key, value in asdict(self).items() if key not in ("total", "agents", "pairs")}
        return {
            **plain,
            "total": self.total.to_dict(),
            "agents": {agent: tally.to_dict() for agent, tally in self.agents.items()},
            "pairs": [
                {"producer": producer, "reader": reader, "tokens": tokens}
                for (producer, reader), tokens in self.pairs.items()
            ],
        }
