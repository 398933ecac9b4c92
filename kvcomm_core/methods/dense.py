"""``dense``: prefill the whole prompt and reuse nothing. It is the baseline and the reference for the other methods.

It costs one forward pass over all tokens, quadratic in attention. It is exact by definition.
"""

from kvcomm_core.method import AgentTurn, Method, Plan, Session
from kvcomm_core.methods.baseline_config import DenseConfig
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import TokenIds


class Dense(Method, Session):
    """A method without state, and its own session."""

    def open(self) -> "Dense":
        """Return the method itself as the session, since requests share no state."""
        return self

    def plan(self, turn: AgentTurn) -> Plan:  # noqa: ARG002 - all turns are alike
        """Supply nothing, so the engine runs every token."""
        return Plan("dense")


def build(model: LoadedModel, header_ids: TokenIds, parameters: DenseConfig) -> Dense:  # noqa: ARG001 - it needs none of them
    """Return the method."""
    return Dense()
