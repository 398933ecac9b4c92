"""What a gate is asked, and what it says.

``criteria`` judges one sample of one placeholder before anything is estimated. A gate judges a turn whose samples all
have estimates, by the KL between the next-token distributions of dense prefill and of reuse:

``calibrated``  predicts the KL, with a threshold learnt from turns whose KL was measured
``gated``       takes the KL between the estimate and rotation alone for it
``oracle``      measures the KL itself: a bound on what any gate can do, no method
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from kvcomm_core.gates.attempt import Attempt, Tried


@dataclass(frozen=True, slots=True)
class Judgement:
    """A gate's verdict on one turn."""

    accepted: bool
    """Whether the turn may reuse."""
    kl: float | None
    """The KL, in nats, that was compared with what the config allows; None if it could not be told."""
    tokens: float = 0.0
    """Prompt tokens run through the model to decide, in whole-model equivalents."""
    tried: Tried | None = None
    """The finished attempt, if the gate made one that the turn can be answered from."""


class Gate(ABC):
    """Decides turn by turn."""

    @abstractmethod
    def judge(self, attempt: Attempt) -> Judgement:
        """Judge the turn of an attempt."""
