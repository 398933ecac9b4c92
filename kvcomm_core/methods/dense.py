"""``dense``: prefill the whole prompt, reuse nothing. The baseline, and the truth that others are measured against.

Costs one forward pass over all tokens, quadratic in attention; exact by definition.
"""

# The interface of every method has arguments that this one needs not.
# ruff: noqa: ARG002

from collections.abc import Sequence

from kvcomm_core.kv import KVBuffer
from kvcomm_core.method import AgentTurn, Decoded, Plan, Session
from kvcomm_core.template import Template, TokenIds


class Dense:
    """A method without state, and its own session."""

    needs_answer_kv = False
    pool_bytes: int | None = None

    def register(self, name: str, template: Template, filler: TokenIds) -> None:
        """Nothing to get ready."""

    def open(self) -> "Dense":
        """Requests share no state, so the method is its own session."""
        return self

    def prepare(self, sessions: Sequence[Session], turns: Sequence[AgentTurn]) -> None:
        """Nothing to do together."""

    def plan(self, turn: AgentTurn) -> Plan:
        """The engine runs every token."""
        return Plan("dense")

    def fill(self, turn: AgentTurn, plan: Plan, row: KVBuffer) -> Plan:
        """Nothing to fill."""
        return plan

    def learn(self, turn: AgentTurn, decoded: Decoded) -> None:
        """Nothing to keep."""

    def next_round(self) -> None:
        """Nothing is known of placeholders."""

    def close(self) -> None:
        """Nothing to publish."""
