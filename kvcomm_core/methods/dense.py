"""``dense``: prefill the whole prompt, reuse nothing. The baseline and the truth that others are measured against.

Costs one forward pass over all tokens, quadratic in attention; exact by definition.
"""

from kvcomm_core.decode import Answer
from kvcomm_core.methods import AgentTurn, Prefill
from kvcomm_core.template import Template, TokenIds


class Dense:
    """A method without state, and its own session."""

    needs_answer_kv = False
    pool_bytes: int | None = None

    def register(self, agent_id: str, template: Template, filler: TokenIds) -> None:
        """Nothing to get ready."""

    def open(self) -> "Dense":
        """Requests share no state, so the method is its own session."""
        return self

    def prefill(self, turn: AgentTurn) -> Prefill:  # noqa: ARG002 - the interface of every method
        """Leaves the buffer empty: the engine prefills every token."""
        return Prefill("dense")

    def learn(self, turn: AgentTurn, prefill: Prefill, answer: Answer) -> None:
        """Nothing to keep."""

    def close(self) -> None:
        """Nothing to publish."""
