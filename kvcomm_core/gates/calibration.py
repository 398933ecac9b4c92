"""What ``calibrated`` has learnt: a prediction of a turn's KL, and how far predictions can be trusted.

*Prediction.* A ridge regression of log KL on what is known before the prompt's KV is written (``Facts``), over the last
audits. It only has to rank turns; nothing below relies on its being right.

*Trust.* Turns fall on rungs by their predicted KL: all turns, then those predicted below a half, a quarter and an
eighth of ``max_kl``. On each rung, a gambler bets against the claim "more than ``alpha`` of these turns exceed
``max_kl``". Each audited turn of the rung is one round. With stake f, it multiplies the wealth by

    1 + f * alpha / (1 - alpha)    if its KL is at most ``max_kl``
    1 - f                          if it is larger

which gains nothing on average while the claim is true. So the wealth reaches ``1 / DOUBT`` with a probability of at
most ``DOUBT``, however often one looks and whatever decides which turns are audited, as long as it is decided before
the KL is known (Ville's inequality; Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting",
2024). The wealth of a rung is the mean over several stakes. A turn may reuse if a rung on which it stands has that
much.

The promise holds for turns that come in no particular order. So that a change is noticed, no wealth grows beyond
``MOST``: a few turns that exceed ``max_kl`` close the rung again.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from kvcomm_core.gates.attempt import Facts

DOUBT = 0.1
"""Largest probability that a rung opens although more than ``alpha`` of its turns exceed ``max_kl``."""
RUNGS = (math.inf, 0.5, 0.25, 0.125)
"""Largest predicted KL of the turns on each rung, as a multiple of ``max_kl``."""
STAKES = (0.2, 0.4, 0.6, 0.8, 0.95)
MOST = 3.0 / DOUBT
KEPT = 256
"""Audits from which the KL is predicted."""
FEWEST = 8
"""Audits before which nothing is predicted."""
_SMALLEST_KL = 1e-9


@dataclass(frozen=True, slots=True)
class Observation:
    """One audited turn."""

    facts: Facts
    predicted_kl: float | None
    """The KL predicted before it was measured; None if nothing was."""
    kl: float


class Calibration:
    """The audits of a trial so far, for one ``max_kl`` and ``alpha``."""

    def __init__(self, max_kl: float, alpha: float) -> None:
        self._max_kl, self._alpha = max_kl, alpha
        self._audits: list[tuple[Facts, float]] = []
        """The last audits, with their log KL."""
        self._wealth = [[1.0] * len(STAKES) for _ in RUNGS]
        self._templates: list[str] = []
        self._weights: Tensor | None = None

    def predict(self, facts: Facts) -> float | None:
        """Return the KL expected of a turn, in nats; None after fewer than ``FEWEST`` audits."""
        if self._weights is None:
            return None
        return math.exp(float(torch.tensor(self._features(facts), dtype=torch.float64) @ self._weights))

    def trusts(self, predicted_kl: float | None) -> bool:
        """Return whether a turn may reuse whose KL is predicted so."""
        return any(sum(self._wealth[rung]) / len(STAKES) >= 1.0 / DOUBT for rung in self._rungs_of(predicted_kl))

    def add(self, observations: Sequence[Observation]) -> None:
        """Learn from audits, in their order."""
        for one in observations:
            exceeds = one.kl > self._max_kl
            for rung in self._rungs_of(one.predicted_kl):
                self._wealth[rung] = [
                    min(MOST, wealth * ((1 - f) if exceeds else (1 + f * self._alpha / (1 - self._alpha))))
                    for wealth, f in zip(self._wealth[rung], STAKES, strict=True)
                ]
            self._audits.append((one.facts, math.log(max(one.kl, _SMALLEST_KL))))
        self._audits = self._audits[-KEPT:]
        if observations:
            self._fit()

    def snapshot(self) -> "Calibration":
        """Return a copy that does not learn what this one learns later."""
        copy = Calibration(self._max_kl, self._alpha)
        copy._audits, copy._wealth = list(self._audits), list(self._wealth)
        copy._templates, copy._weights = self._templates, self._weights
        return copy

    def describe(self) -> dict[str, Any]:
        """Describe everything learnt, in JSON types."""
        return {"audits": [[asdict(facts), log_kl] for facts, log_kl in self._audits], "wealth": self._wealth}

    def restore(self, description: dict[str, Any]) -> None:
        """Replace what was learnt with what ``describe`` described."""
        self._audits = [(Facts(**facts), log_kl) for facts, log_kl in description["audits"]]
        self._wealth = [list(wealth) for wealth in description["wealth"]]
        self._fit()

    def _rungs_of(self, predicted_kl: float | None) -> list[int]:
        known = math.inf if predicted_kl is None else predicted_kl
        return [rung for rung, bound in enumerate(RUNGS) if known <= bound * self._max_kl]

    def _fit(self) -> None:
        """Fit the regression, with a penalty that weighs as much as one audit."""
        if len(self._audits) < FEWEST:
            self._weights = None
            return
        self._templates = sorted({facts.template for facts, _ in self._audits})
        x_NF = torch.tensor([self._features(facts) for facts, _ in self._audits], dtype=torch.float64)
        y_N = torch.tensor([log_kl for _, log_kl in self._audits], dtype=torch.float64)
        penalty = torch.eye(x_NF.shape[1], dtype=torch.float64)
        penalty[0, 0] = 0.0  # the first feature is constant
        self._weights = torch.linalg.solve(x_NF.T @ x_NF + penalty, x_NF.T @ y_N)

    def _features(self, facts: Facts) -> list[float]:
        sizes = (facts.samples, facts.estimated_tokens, facts.unseen_tokens)
        return [1.0, *map(math.log1p, sizes), *(float(facts.template == name) for name in self._templates)]
