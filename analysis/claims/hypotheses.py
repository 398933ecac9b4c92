"""The tests of a ledger: one-sided p-values for and against a claim, and Holm's correction over claims.

Each test is made of hypotheses about a difference and a threshold. Where a claim needs several to hold at once, as
``equivalent`` does, its p-value is the largest of theirs (an intersection-union test, which needs no correction). Where
one of several would contradict it, it is the smallest times their number.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Protocol

import pandas as pd

from analysis.claims.ledger import Claim, Test
from analysis.claims.quantities import QUANTITIES
from analysis.claims.resampling import resample
from analysis.paired_answers import PairedAnswers
from analysis.power import items_needed
from analysis.stats import CONFIDENCE

_ON_IT = 1e-9
"""Distance from a threshold that rounding can make."""


@dataclass(frozen=True, slots=True)
class Hurdle:
    """A difference that has to be shown to be above a threshold."""

    observed: float
    threshold: float
    variance: float
    """Variance of one item's difference: that of the estimate times the number of items."""
    margin: bool
    """Whether the threshold is a margin, so that no difference is enough."""

    def items(self, n: int, level: float, power: float) -> int | None:
        """Return the items, in all, that would show it with a chance of ``power``; ``n`` have been seen.

        A margin is planned for no true difference; where that many were seen already, and for every other threshold,
        for the observed one. None if the latter lies on the threshold.
        """
        if self.margin:
            needed = items_needed(self.variance, abs(self.threshold), level=level, power=power)
            if needed > n:
                return needed
        distance = abs(self.observed - self.threshold)
        return None if distance < _ON_IT else items_needed(self.variance, distance, level=level, power=power)


@dataclass(frozen=True, slots=True)
class Tested:
    """The result of a claim's test, before any correction for other claims."""

    effect: float
    """Our side minus the other; for ``ordered`` the last cell minus the first, with ``than`` our side alone."""
    low: float
    """95 % interval of the effect; NaN where a resample has none."""
    high: float
    p_for: float
    """One-sided p-value of the claim."""
    p_against: float
    """One-sided p-value of its opposite."""
    hurdles: tuple[Hurdle, ...]
    """All hypotheses that must hold for the claim to be reproduced."""

    @property
    def p_value(self) -> float:
        """Two-sided: of the claim or its opposite, whichever is nearer."""
        return min(1.0, 2 * min(self.p_for, self.p_against))


class Gap(Protocol):
    """A difference of two sides, in the unit of the measure."""

    @property
    def value(self) -> float:
        """The observed value."""

    def __neg__(self) -> "Gap":
        """Exchange the sides."""

    def chance_of_more(self, threshold: float) -> float:
        """Return the one-sided p-value of 'the true difference is above the threshold'."""

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return the two-sided interval."""

    def planned_variance(self, threshold: float) -> float:
        """Return the variance of one item's difference to plan a test of the threshold with."""


@dataclass(frozen=True, slots=True)
class AnswerGap:
    """A difference of accuracies on the same items, in points."""

    pairs: PairedAnswers

    @property
    def value(self) -> float:
        """The observed value."""
        return 100 * self.pairs.difference

    def __neg__(self) -> "AnswerGap":
        return AnswerGap(-self.pairs)

    def chance_of_more(self, threshold: float) -> float:
        """Return Tango's p-value."""
        return self.pairs.chance_of_more(threshold / 100)

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return Tango's interval."""
        low, high = self.pairs.interval(confidence)
        return 100 * low, 100 * high

    def planned_variance(self, threshold: float) -> float:
        """Return the variance of one item's difference."""
        return 100**2 * self.pairs.planned_variance(threshold / 100)


def examine(claim: Claim, arms: Sequence[pd.DataFrame]) -> Tested:
    """Test a claim on the rows of its cells, none of them empty."""
    between = _gaps(claim, arms)
    steps: list[Gap] = []
    if claim.than is not None:
        [own] = resample(QUANTITIES[claim.measure], arms)
        shown: Gap = own
        gap: Gap = own - claim.than
    elif claim.along is not None:
        shown = gap = between(len(arms) - 1, 0)
        steps = [between(later, earlier) for earlier, later in pairwise(range(len(arms)))]
    else:
        shown = gap = between(0, 1)
    if claim.direction == "lower":
        gap, steps = -gap, [-step for step in steps]
    low, high = shown.interval(CONFIDENCE)
    p_for, p_against, hurdles = _judged(claim.test, claim.margin, gap, steps)
    return Tested(shown.value, low, high, p_for, p_against, hurdles)


def _gaps(claim: Claim, arms: Sequence[pd.DataFrame]) -> Callable[[int, int], Gap]:
    """Return a function from two cells to the first minus the second."""
    if claim.measure == "accuracy" and len(arms) > 1 and arms[0]["item"].is_unique:
        right = [(rows["value"] > 0).tolist() for rows in arms]
        return lambda ours, theirs: AnswerGap(PairedAnswers.of(right[ours], right[theirs]))
    drawn = cache(lambda: resample(QUANTITIES[claim.measure], arms))
    return lambda ours, theirs: drawn()[ours] - drawn()[theirs]


def _judged(test: Test, margin: float, gap: Gap, steps: list[Gap]) -> tuple[float, float, tuple[Hurdle, ...]]:
    """Return the p-values of the claim and of its opposite, and what the claim needs."""
    match test:
        case "superior":
            return gap.chance_of_more(margin), _less(gap, margin), (_hurdle(gap, margin, margin=False),)
        case "noninferior":
            return gap.chance_of_more(-margin), _less(gap, -margin), (_hurdle(gap, -margin, margin=True),)
        case "equivalent":
            inside = max(gap.chance_of_more(-margin), _less(gap, margin))
            outside = min(1.0, 2 * min(_less(gap, -margin), gap.chance_of_more(margin)))
            return inside, outside, tuple(_hurdle(one, -margin, margin=True) for one in (gap, -gap))
        case "ordered":
            forward = [gap.chance_of_more(0), *(step.chance_of_more(-margin) for step in steps)]
            backward = [_less(gap, 0), *(_less(step, -margin) for step in steps)]
            hurdles = (_hurdle(gap, 0, margin=False), *(_hurdle(step, -margin, margin=margin > 0) for step in steps))
            return max(forward), min(1.0, len(backward) * min(backward)), hurdles


def _less(gap: Gap, threshold: float) -> float:
    """Return the one-sided p-value of 'the true difference is below the threshold'."""
    return (-gap).chance_of_more(-threshold)


def _hurdle(gap: Gap, threshold: float, *, margin: bool) -> Hurdle:
    return Hurdle(gap.value, threshold, gap.planned_variance(threshold), margin)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number, in the same order (Holm, Scandinavian Journal of Statistics 6,
    1979): the chance that any true hypothesis among them is rejected is at most the level, whatever their dependence.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
