"""The time of a conversation: all turns that one item takes, summed. A user waits for this, not for one agent.

Every measure here is a **ratio of sums** over conversations: all seconds of decoding over all seconds, for example. A
mean of each conversation's own ratio would count a short conversation as much as a long one, and would not equal the
ratio of the times that stand beside it. MLflow, the tables and the report all take their numbers from ``MEASURES``.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol


class TimedTurn(Protocol):
    """The times of a turn: a ``TurnRecord``, or a row of the ``turns`` table with None for null."""

    @property
    def ttft_s(self) -> float: ...
    @property
    def decode_s(self) -> float: ...
    @property
    def phase_store_s(self) -> float: ...
    @property
    def phase_publish_s(self) -> float | None: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def ttft_share_s(self) -> float | None: ...
    @property
    def decode_share_s(self) -> float | None: ...
    @property
    def stop_reason(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Conversation:
    """The sums over the turns of one item in one arm, rounds included. Tools are not part of any time.

    In a batch that moves in step, the items wait for each other: each of its conversations takes as long as the batch.
    """

    ttft_s: float
    """Seconds to the first token."""
    decode_s: float | None
    """Seconds from the first token to the last; None if answers were given instead of decoded."""
    latency_s: float | None
    """Seconds of the whole turns; None if answers were given."""
    busy_s: float | None
    """The item's share of these seconds: work for several turns counts for each in equal parts, or by its tokens where
    they do not move in step. None if answers were given."""
    energy_j: float | None = None
    """Energy that the item took; None unless the GPU tells."""


def turn_latency_s(turn: TimedTurn) -> float:
    """Return the seconds of a turn: time to the first token, decoding, storing and, on the last turn, publishing.

    Results from before publishing was timed lack the last of these.
    """
    return turn.ttft_s + turn.decode_s + turn.phase_store_s + (turn.phase_publish_s or 0.0)


def turn_busy_s(turn: TimedTurn) -> float:
    """Return the turn's share of these seconds: an equal part of those of a batch in step, but each item is published
    by itself. Any other turn has its own part of the work up to its last token, and is also stored by itself."""
    publish_s = turn.phase_publish_s or 0.0
    if turn.ttft_share_s is None or turn.decode_share_s is None:
        return (turn_latency_s(turn) - publish_s) / turn.batch_size + publish_s
    return turn.ttft_share_s + turn.decode_share_s + turn.phase_store_s + publish_s


def conversation_of(turns: Iterable[TimedTurn], energy_j: float | None = None) -> Conversation:
    """Sum the turns of one item in one arm."""
    taken = list(turns)
    ttft_s = sum(turn.ttft_s for turn in taken)
    if any(turn.stop_reason == "given" for turn in taken):
        return Conversation(ttft_s, None, None, None, energy_j)
    return Conversation(
        ttft_s,
        sum(turn.decode_s for turn in taken),
        sum(map(turn_latency_s, taken)),
        sum(map(turn_busy_s, taken)),
        energy_j,
    )


Amount = Callable[[Conversation], float | None]


@dataclass(frozen=True, slots=True)
class RatioOfSums:
    """A measure over conversations: the sum of ``part`` over the sum of ``whole``."""

    part: Amount
    whole: Amount

    def terms(self, conversation: Conversation) -> tuple[float, float] | None:
        """Return what a conversation adds to the two sums; None if either is unknown."""
        part, whole = self.part(conversation), self.whole(conversation)
        return None if part is None or whole is None else (part, whole)

    def over(self, conversations: Iterable[Conversation]) -> float | None:
        """Return the measure over those conversations that have it; None if none has."""
        known = [terms for one in conversations if (terms := self.terms(one)) is not None]
        return sum(part for part, _ in known) / sum(whole for _, whole in known) if known else None


MEASURES: dict[str, RatioOfSums] = {
    "ttft_sum_s": RatioOfSums(lambda one: one.ttft_s, lambda _: 1.0),
    "latency_s": RatioOfSums(lambda one: one.latency_s, lambda _: 1.0),
    "decode_share": RatioOfSums(lambda one: one.decode_s, lambda one: one.latency_s),
    "items_per_minute": RatioOfSums(lambda _: 60.0, lambda one: one.busy_s),
    "energy_j": RatioOfSums(lambda one: one.energy_j, lambda _: 1.0),
}
"""Time to the first token summed over an item's turns, latency of an item, decoding's share of it, items per minute,
and energy per item. Times and energy are thus means over items."""
