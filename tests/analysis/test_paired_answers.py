"""Tango's test against a likelihood maximised by search, and against every outcome of small trials."""

import math

import pytest
from scipy.stats import multinomial, norm

from analysis.paired_answers import PairedAnswers


def slow_score(ours, theirs, n, difference):
    """The score with the share of items that only they answer found by trying 200,000 of them."""

    def likelihood(share):
        cells = ((ours, share + difference), (theirs, share), (n - ours - theirs, 1 - 2 * share - difference))
        if any(chance < 0 or (count and chance <= 0) for count, chance in cells):
            return -math.inf
        return sum(count * math.log(chance) for count, chance in cells if count)

    steps = 200_000
    share = max((index / steps for index in range(steps // 2 + 1)), key=likelihood)
    variance = n * (2 * share + difference - difference**2)
    return (ours - theirs - n * difference) / math.sqrt(variance)


@pytest.mark.parametrize(("ours", "theirs", "n"), [(5, 9, 100), (0, 0, 40), (0, 7, 60), (12, 0, 50)])
@pytest.mark.parametrize("difference", [-0.1, -0.03, 0.0, 0.2])
def test_score(ours, theirs, n, difference):
    """Catches a wrong sign in the quadratic, and the observed variance in place of the constrained one."""
    if difference == 0 and ours == theirs == 0:
        return  # no information: the variance is 0
    found = PairedAnswers(ours, theirs, n).score(difference)
    assert found == pytest.approx(slow_score(ours, theirs, n, difference), rel=1e-3, abs=1e-3)


def test_interval_holds_what_the_test_accepts():
    """Catches an interval that is not the test turned round, and ends beyond -1 and 1."""
    pairs = PairedAnswers(9, 3, 100)
    low, high = pairs.interval(0.95)
    assert low < 0.06 < high
    assert (pairs.score(low), pairs.score(high)) == pytest.approx((norm.ppf(0.975), -norm.ppf(0.975)))
    assert PairedAnswers(5, 0, 5).interval(0.95)[1] == 1.0
    z2 = norm.ppf(0.975) ** 2
    assert PairedAnswers(0, 0, 100).interval(0.95) == pytest.approx((-z2 / (100 + z2), z2 / (100 + z2)))


@pytest.mark.parametrize("discordance", [0.06, 0.1, 0.3])
def test_wrong_claims_are_rare(discordance):
    """Catches a test that is too bold: at a true loss of just the margin, at most about 2.5 % may pass. Enumerated."""
    n, margin = 100, 0.05
    chances = multinomial(n, [(discordance - margin) / 2, (discordance + margin) / 2, 1 - discordance])
    passed = sum(
        chances.pmf([ours, theirs, n - ours - theirs])
        for ours in range(30)
        for theirs in range(45)
        if PairedAnswers(ours, theirs, n).chance_of_more(-margin) <= 0.025
    )
    assert passed <= 0.032
