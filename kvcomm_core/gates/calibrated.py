"""``calibrated``: reuse where audits of earlier turns promise that at most ``alpha`` of such turns exceed ``max_kl``.

Deciding costs nothing but a product of a few numbers. Until enough turns were audited, all are prefilled. Each of them
is an audit, once its pools know enough to estimate it: the estimate's last tokens run after the answer. Later,
``audit_share`` of the reused turns are prefilled after their answer, so that a change is noticed.
"""

from kvcomm_core.gates.attempt import Attempt
from kvcomm_core.gates.calibration import Calibration
from kvcomm_core.gates.gate import Gate, Judgement


class CalibratedGate(Gate):
    """Judges by what was learnt before the request opened."""

    def __init__(self, known: Calibration) -> None:
        self._known = known

    def judge(self, attempt: Attempt) -> Judgement:
        """Predict the turn's KL and ask whether such predictions can be trusted."""
        predicted_kl = self._known.predict(attempt.facts)
        return Judgement(self._known.trusts(predicted_kl), predicted_kl)
