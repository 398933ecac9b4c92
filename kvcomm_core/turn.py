"""The record of one agent's turn, which the engine returns: its prompt, answer, tokens that ran, and times."""

from dataclasses import dataclass

from torch import Tensor

from kvcomm_core.decode import StopReason
from kvcomm_core.kv import KV
from kvcomm_core.method import Mode, Plan
from kvcomm_core.template import Prompt, TokenIds

_NOT_PART_OF_PAPER_TTFT = ("base_kv", "match")


@dataclass(frozen=True, slots=True)
class ComputedTokens:
    """The tokens that one turn ran through the model for its prompt, by kind."""

    prefill: int
    """Prompt tokens that the engine ran, in order."""
    recompute: float
    """Prompt tokens recomputed inside an assembled prompt, in whole-model equivalents: a token that ran through k of L
    layers counts k/L."""
    base_kv: int
    """Tokens prefilled alone for the base KV of new placeholders, before the first token."""
    learning: int
    """Tokens run after the first token only because the method learns from them."""

    @property
    def total(self) -> float:
        """All of them."""
        return self.prefill + self.recompute + self.base_kv + self.learning


@dataclass(frozen=True, slots=True)
class Turn:
    """One agent's turn: its prompt, its answer, how the prompt's KV was obtained and how long the turn took.

    The turns of a batch are timed together and have the same times; those of ``Rows`` have times of their own.
    """

    name: str
    """The template's name, as registered."""
    prompt: Prompt
    answer_ids: TokenIds
    stop_reason: StopReason
    first_logits_V: Tensor
    """Logits of the answer's first token, float32."""
    plan: Plan
    batch_size: int
    """Turns under way when this one began, itself included."""
    ttft_s: float
    """Seconds from 'the inputs of this turn are known' to 'the first token id is on the host'."""
    decode_s: float
    """Seconds from the first token id to the last."""
    phases_s: dict[str, float]
    """Seconds by phase, for the phases entered. ``base_kv``, ``match``, ``estimate``, ``blend``, ``recompute`` and
    ``prefill`` lie within ``ttft_s``; ``store`` comes after. ``recompute`` chooses what is recomputed; ``prefill``
    does it, in one pass with the rest. In ``Rows`` that pass belongs to ``recompute``, but for the last token."""
    computed: ComputedTokens
    exact_prefix_tokens: int
    """Prompt tokens that an exact prefix cache would have reused: the longest prefix, at most all but the last token,
    that the prompt shares with a template's leading text or with an earlier prompt and answer of this request."""
    audit_kl: float | None = None
    """KL(dense || reuse) of the next token, in nats, which the method measured after the answer; None if it did not."""
    ttft_share_s: float | None = None
    """The turn's part of ``ttft_s``: work for several turns counts for each by its tokens. None but in ``Rows``."""
    decode_share_s: float | None = None
    """The same of ``decode_s``."""
    prompt_kv: KV | None = None
    """A copy of the KV that the answer was decoded from, if requested: all the prompt's tokens but the last, keys at
    their positions."""

    @property
    def mode(self) -> Mode:
        """The way in which the prompt's KV was obtained."""
        return self.plan.mode

    @property
    def ttft_paper_s(self) -> float:
        """``ttft_s`` as the paper counts it: without the base KV of new placeholders and without the shareability
        test."""
        return self.ttft_s - sum(self.phases_s.get(phase, 0.0) for phase in _NOT_PART_OF_PAPER_TTFT)
