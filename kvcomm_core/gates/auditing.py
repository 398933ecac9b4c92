"""Audits: the KL of reuse, measured after the answer by obtaining the turn's KV in the other way, too.

Some reused turns, drawn by ``audit_share``, are prefilled densely. Their true KV also teaches new anchors. A turn that
a ``calibrated`` gate kept from reuse is assembled all the same, which costs its last tokens only.
"""

import hashlib
import math

from kvcomm_core.config import KVCommConfig
from kvcomm_core.fidelity import compare_next_token
from kvcomm_core.gates.attempt import Attempt, run_dense
from kvcomm_core.gates.calibration import Calibration, Observation
from kvcomm_core.kv import KV
from kvcomm_core.method import AgentTurn, Audit, Decoded
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import TokenIds


class Auditor:
    """The audits of one request."""

    def __init__(self, model: LoadedModel, config: KVCommConfig, calibration: Calibration | None) -> None:
        """``calibration`` learns from the audits; None if nothing does."""
        self._model, self._config, self._calibration = model, config, calibration
        self._known = None if calibration is None else calibration.snapshot()
        self._observations: list[Observation] = []
        self.truth: KV | None = None
        """The true KV of the prompt of the turn audited last, if it reused and was drawn."""

    def audit(self, turn: AgentTurn, decoded: Decoded, attempt: Attempt | None) -> Audit:
        """Audit a finished turn if it is its turn. ``attempt`` is what it reused, or could have."""
        self.truth = None
        if attempt is None:
            return Audit()
        if decoded.plan.falls_back:
            if self._known is None:
                return Audit()
            tried = attempt.run()
            kl, tokens = compare_next_token(decoded.first_logits_V, tried.logits_V).kl, tried.recomputed.computed_tokens
        else:
            if not is_drawn(turn.prompt.token_ids, self._config.audit_share):
                return Audit()
            dense_V, row = run_dense(self._model, turn.prompt)
            kl, tokens = compare_next_token(dense_V, decoded.first_logits_V).kl, float(len(turn.prompt))
            self.truth = row.view(0, len(turn.prompt))
        if self._known is not None:
            self._observations.append(Observation(attempt.facts, self._known.predict(attempt.facts), kl))
        return Audit(math.ceil(tokens), kl)

    def publish(self) -> None:
        """Hand the audits to the calibration, which later requests use."""
        if self._calibration is not None:
            self._calibration.add(self._observations)


def is_drawn(token_ids: TokenIds, share: float) -> bool:
    """Return whether a prompt is among a pseudo-random share of all prompts. The prompt alone decides, so a resumed
    trial audits the same turns."""
    digest = hashlib.sha256(repr(token_ids).encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64
