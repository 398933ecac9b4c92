"""Intervals and tests, as pure functions of arrays.

Intervals are at 95 % and, but for proportions of independent cases, bootstrapped: percentiles of the statistic over
2,000 resamples, drawn with a fixed seed. What is drawn are *clusters*, not rows: the turns of one item share a
question, so a resample has all turns of an item or none of them, and an item drawn twice has them all twice. With
fewer than five clusters there are too few different resamples for an interval, and there is none. BCa intervals were
left aside, since their acceleration comes from a jackknife, which fails for medians.

A speedup is the **median of paired ratios**: what a typical turn gains. The ratio of two medians would set one turn's
time against that of another with another prompt, and a ratio of means would follow the longest prompts.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, norm

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""From weights ``[B, N]``, how often each of N rows is in each of B resamples, to the statistic of each, ``[B]``."""

CONFIDENCE = 0.95
RESAMPLES = 2000
FEWEST_CLUSTERS = 5
"""Below it there is no interval: four clusters have 35 different resamples, five have 126."""

_WEIGHTS_AT_ONCE = 4_000_000
_Z = float(norm.ppf((1 + CONFIDENCE) / 2))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval; ``low`` and ``high`` are None where there is too little for one."""

    value: float
    low: float | None
    high: float | None
    n: int
    """Observations."""
    n_clusters: int
    """Independent ones among them: items, mostly."""

    def scaled(self, factor: float) -> "Estimate":
        """In another unit; ``factor`` is above 0."""
        low, high = (None if end is None else end * factor for end in (self.low, self.high))
        return Estimate(self.value * factor, low, high, self.n, self.n_clusters)


@dataclass(frozen=True, slots=True)
class McNemar:
    """The exact test of two arms that answered the same items."""

    only_ours: int
    """Items that only our arm answered right."""
    only_theirs: int
    p_value: float
    """Two-sided: how often a fair coin splits the items that the arms disagree on at least as unevenly."""


@dataclass(frozen=True, slots=True)
class Tails:
    """Quantiles; None where fewer than one observation is expected beyond them: p90 of fewer than 10, p99 of fewer
    than 100."""

    n: int
    p50: float
    p90: float | None
    p99: float | None


def proportion(successes: int, n: int) -> Estimate:
    """Share of successes with Wilson's interval. Raises ``ValueError`` unless 0 <= successes <= n and n >= 1."""
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"successes is {successes} of {n}; allowed: 0 to n, with n 1 or more")
    interval = binomtest(successes, n).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high), n, n)


def bootstrap(
    statistic: Statistic, n: int, clusters: ArrayLike | None = None, *, seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """A statistic of ``n`` rows with its percentile interval.

    ``clusters`` names the cluster of each row, ``[N]``; None: every row is one.
    """
    if n < 1:
        raise ValueError("n is 0; allowed: 1 or more")
    names = np.arange(n) if clusters is None else np.asarray(clusters)
    if names.shape != (n,):
        raise ValueError(f"clusters has shape {names.shape}; allowed: ({n},), one for each row")
    distinct, cluster_N = np.unique(names, return_inverse=True)
    k = len(distinct)
    value = float(statistic(np.ones((1, n)))[0])
    if k < FEWEST_CLUSTERS:
        return Estimate(value, None, None, n, k)
    rng = np.random.default_rng(seed)
    at_once = max(1, _WEIGHTS_AT_ONCE // n)
    values = []
    for start in range(0, resamples, at_once):
        drawn_BK = rng.multinomial(k, np.full(k, 1 / k), size=min(at_once, resamples - start))
        values.append(statistic(drawn_BK[:, cluster_N].astype(np.float64)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(values), [tail, 1 - tail])
    return Estimate(value, float(low), float(high), n, k)


def mean(values: ArrayLike, clusters: ArrayLike | None = None) -> Estimate:
    """Mean of ``[N]`` values."""
    return ratio_of_sums(values, np.ones(len(np.asarray(values))), clusters)


def ratio_of_sums(parts: ArrayLike, wholes: ArrayLike, clusters: ArrayLike | None = None) -> Estimate:
    """Sum of parts over sum of wholes, ``[N]`` each: a rate such as reused tokens over tokens."""
    parts_N, wholes_N = _paired(parts, wholes)
    return bootstrap(lambda weights_BN: (weights_BN @ parts_N) / (weights_BN @ wholes_N), len(parts_N), clusters)


def median(values: ArrayLike, clusters: ArrayLike | None = None) -> Estimate:
    """Median of ``[N]`` values."""
    values_N = _known(values)
    return bootstrap(_weighted_medians(values_N), len(values_N), clusters)


def mean_of_medians(values: ArrayLike, groups: ArrayLike, clusters: ArrayLike | None = None) -> Estimate:
    """Mean over groups of the median in each; ``groups`` names the group of each of ``[N]`` values.

    A resample that misses a group altogether takes the mean over the others.
    """
    values_N, groups_N = _known(values), np.asarray(groups)
    parts = [(groups_N == name, _weighted_medians(values_N[groups_N == name])) for name in np.unique(groups_N)]

    def statistic(weights_BN: Floats) -> Floats:
        means: Floats = np.nanmean([medians(weights_BN[:, own]) for own, medians in parts], axis=0)
        return means

    return bootstrap(statistic, len(values_N), clusters)


def paired_difference(ours: ArrayLike, theirs: ArrayLike, clusters: ArrayLike | None = None) -> Estimate:
    """Mean of ours minus theirs over ``[N]`` pairs."""
    ours_N, theirs_N = _paired(ours, theirs)
    return mean(ours_N - theirs_N, clusters)


def paired_ratio(slower: ArrayLike, faster: ArrayLike, clusters: ArrayLike | None = None) -> Estimate:
    """Median over ``[N]`` pairs of slower / faster: the speedup. Raises ``ValueError`` unless all are above 0."""
    slower_N, faster_N = _paired(slower, faster)
    if min(slower_N.min(), faster_N.min()) <= 0:
        raise ValueError(f"a time is {min(slower_N.min(), faster_N.min())}; allowed: above 0")
    return median(slower_N / faster_N, clusters)


def mcnemar(ours: ArrayLike, theirs: ArrayLike) -> McNemar:
    """Of ``[N]`` pairs of right (True) and wrong (False) answers, one pair an item: pairs must be independent."""
    ours_N, theirs_N = (np.asarray(right, dtype=bool) for right in (ours, theirs))
    if ours_N.shape != theirs_N.shape:
        raise ValueError(f"{len(theirs_N)} answers stand beside {len(ours_N)}; allowed: as many")
    only_ours, only_theirs = int((ours_N & ~theirs_N).sum()), int((theirs_N & ~ours_N).sum())
    disagree = only_ours + only_theirs
    return McNemar(only_ours, only_theirs, float(binomtest(only_ours, disagree).pvalue) if disagree else 1.0)


def tails(values: ArrayLike) -> Tails:
    """Median and tails of ``[N]`` values, by linear interpolation."""
    values_N = _known(values)
    n = len(values_N)
    p50, p90, p99 = (float(value) for value in np.quantile(values_N, [0.5, 0.9, 0.99]))
    return Tails(n, p50, p90 if n >= 10 else None, p99 if n >= 100 else None)


def mean_of_moments(mean: float, sd: float, n: int) -> Estimate:
    """The mean of ``n`` independent numbers that are known by their mean and standard deviation alone, with the normal
    interval."""
    if n < 2 or sd < 0:
        raise ValueError(f"n is {n} and sd {sd}; allowed: n 2 or more, sd 0 or more")
    half = _Z * sd / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n, n)


def rank_correlation(rho: float, n: int) -> Estimate:
    """Spearman's correlation of ``n`` pairs, with the interval of Bonett and Wright (Psychometrika 65, 2000): Fisher's
    transform with the standard error sqrt((1 + rho^2 / 2) / (n - 3))."""
    if n < 4 or not -1 <= rho <= 1:
        raise ValueError(f"n is {n} and rho {rho}; allowed: n 4 or more, rho -1 to 1")
    if abs(rho) == 1:
        return Estimate(rho, rho, rho, n, n)
    half = _Z * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return Estimate(rho, math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half), n, n)


def _weighted_medians(values_N: Floats) -> Statistic:
    """Medians of the values repeated as often as their weights say; NaN where all weights are 0."""
    order_N = np.argsort(values_N, kind="stable")
    sorted_N = values_N[order_N]

    def statistic(weights_BN: Floats) -> Floats:
        upto_BN = np.cumsum(weights_BN[:, order_N], axis=1)
        total_B = upto_BN[:, -1]
        # Of a total of 5 the third value, of 6 the mean of the third and the fourth.
        middle = [sorted_N[np.argmax(upto_BN > at[:, None], axis=1)] for at in ((total_B - 1) // 2, total_B // 2)]
        return np.where(total_B > 0, (middle[0] + middle[1]) / 2, np.nan)

    return statistic


def _known(values: ArrayLike) -> Floats:
    known: Floats = np.asarray(values, dtype=np.float64)
    if known.ndim != 1 or known.size == 0 or not np.isfinite(known).all():
        raise ValueError(f"values has shape {known.shape}; allowed: one or more numbers, all of them known and finite")
    return known


def _paired(first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
    first_N, second_N = _known(first), _known(second)
    if first_N.shape != second_N.shape:
        raise ValueError(f"{len(second_N)} values stand beside {len(first_N)}; allowed: as many")
    return first_N, second_N
