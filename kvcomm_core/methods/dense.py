"""``dense``: prefill the whole prompt and reuse nothing. It is the baseline and the reference for the other methods.

It costs one forward pass over all tokens, quadratic in attention. It is exact by definition.
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
        """Do nothing: no preparation is needed."""

    def open(self) -> "Dense":
        """Return the method itself as the session, since requests share no state."""
        return self

    def prepare(self, sessions: Sequence[Session], turns: Sequence[AgentTurn]) -> list[int]:
        """Do nothing: the turns share no work."""
        return [0] * len(turns)

    def prepare_learning(self, sessions: Sequence[Session], turns: Sequence[AgentTurn]) -> list[int]:
        """Do nothing: there is nothing to learn."""
        return [0] * len(turns)

    def plan(self, turn: AgentTurn) -> Plan:
        """Supply nothing, so the engine runs every token."""
        return Plan("dense")

    def fill(self, turn: AgentTurn, plan: Plan, row: KVBuffer) -> Plan:
        """Do nothing: there is nothing to fill."""
        return plan

    def learn(self, turn: AgentTurn, decoded: Decoded) -> None:
        """Do nothing: there is nothing to keep."""

    def next_round(self) -> None:
        """Do nothing: the method keeps no placeholders."""

    def close(self) -> None:
        """Do nothing: there is nothing to publish."""
