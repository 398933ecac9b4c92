"""Right and wrong answers of two arms to the same items: Tango's score test and interval for their difference.

The items on which the arms disagree carry the evidence. A test of a margin by the normal distribution of the observed
difference, or by resampling, is too bold where few or no items disagree: with none, it would be certain after a handful
of items. Tango's test takes the variance that the margin itself implies (T. Tango, Statistics in Medicine 17, 1998).
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.optimize import brentq
from scipy.stats import norm


@dataclass(frozen=True, slots=True)
class PairedAnswers:
    """Counts of items that both arms answered."""

    only_ours: int
    """Items that only our arm answered correctly."""
    only_theirs: int
    n: int
    """All items, at least 1."""

    @classmethod
    def of(cls, ours: Sequence[bool], theirs: Sequence[bool]) -> "PairedAnswers":
        """Count who answered each item correctly."""
        pairs = Counter(zip(ours, theirs, strict=True))
        return cls(pairs[True, False], pairs[False, True], len(ours))

    def __neg__(self) -> "PairedAnswers":
        """Exchange the sides."""
        return PairedAnswers(self.only_theirs, self.only_ours, self.n)

    @property
    def difference(self) -> float:
        """Our share of correct answers minus theirs, -1 to 1."""
        return (self.only_ours - self.only_theirs) / self.n

    @property
    def discordance(self) -> float:
        """The share of items that one arm alone answered correctly."""
        return (self.only_ours + self.only_theirs) / self.n

    def planned_variance(self, difference: float) -> float:
        """Return the variance of one item's difference to plan a test of this true difference with: the one observed
        or, if it is larger, the one that the test takes. So it is above 0 even if no item disagrees."""
        return max(self.discordance - self.difference**2, self._variance_if(difference))

    def score(self, difference: float) -> float:
        """Return Tango's statistic of the hypothesis that the true difference is this one: standard normal if it is.

        ``difference`` is between -1 and 1, both excluded.
        """
        distance = self.difference - difference
        variance = self._variance_if(difference)
        if variance <= 0:
            return 0.0 if distance == 0 else math.copysign(math.inf, distance)
        return distance * math.sqrt(self.n / variance)

    def _variance_if(self, difference: float) -> float:
        """Return the variance of one item's difference by maximum likelihood, given the true difference."""
        # The share of items that only they answer solves a x^2 + b x + c = 0.
        a = 2 * self.n
        b = (2 * self.n - self.only_ours + self.only_theirs) * difference - self.only_ours - self.only_theirs
        c = -self.only_theirs * difference * (1 - difference)
        share = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
        return max(0.0, 2 * share + difference * (1 - difference))

    def chance_of_more(self, difference: float) -> float:
        """Return the one-sided p-value of 'the true difference is above this one'."""
        return float(norm.sf(self.score(difference)))

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return the differences that the two-sided score test does not reject."""
        z = float(norm.ppf((1 + confidence) / 2))
        edge = 1 - 1e-9

        def end(sign: int) -> float:
            limit = sign * edge
            if sign * self.score(limit) > -z:
                return float(sign)
            return float(brentq(lambda at: sign * self.score(at) + z, self.difference, limit))

        return end(-1), end(+1)
