"""Intervals and tests, as pure functions of arrays.

Intervals are at 95 %. Proportions of independent cases have Wilson's interval; all other intervals are bootstrapped:
percentiles of the statistic over 2,000 resamples, drawn with a fixed seed. The bootstrap draws *clusters*, not rows.
The turns of one item share a question, so a resample has all turns of an item or none, and an item drawn twice
contributes all its turns twice. Fewer than five clusters allow too few different resamples, so there is no interval.
BCa intervals are not used because their acceleration comes from a jackknife, which fails for medians.

A speedup is the **median of paired ratios**: the gain of a typical turn. A ratio of two medians would compare turns
with different prompts, and a ratio of means would be dominated by the longest prompts.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, norm

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""Maps weights ``[B, N]`` to statistics ``[B]``; a weight counts how often a row is in a resample."""

CONFIDENCE = 0.95
RESAMPLES = 2000
FEWEST_CLUSTERS = 5
"""Fewest clusters for an interval: four clusters have 35 different resamples, five have 126."""

_WEIGHTS_AT_ONCE = 4_000_000
_NO_ORDER = 1e-9
"""Largest sum of squared rank deviations that rounding can make of equal ranks; unequal ones have 0.5 or more."""
_Z = float(norm.ppf((1 + CONFIDENCE) / 2))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval; ``low`` and ``high`` are None if there are too few data for one."""

    value: float
    low: float | None
    high: float | None
    n: int
    """Number of observations."""
    n_clusters: int
    """Number of independent clusters, mostly items."""

    def scaled(self, factor: float) -> "Estimate":
        """Convert to another unit; ``factor`` is above 0."""
        low, high = (None if end is None else end * factor for end in (self.low, self.high))
        return Estimate(self.value * factor, low, high, self.n, self.n_clusters)


@dataclass(frozen=True, slots=True)
class McNemar:
    """Result of the exact test of two arms that answered the same items."""

    only_ours: int
    """Items that only our arm answered correctly."""
    only_theirs: int
    p_value: float
    """Two-sided: the probability that a fair coin splits the disagreements at least as unevenly."""


@dataclass(frozen=True, slots=True)
class Tails:
    """Quantiles. A quantile is None if fewer than one observation is expected beyond it: p90 of fewer than 10 values,
    p99 of fewer than 100."""

    n: int
    p50: float
    p90: float | None
    p99: float | None


def proportion(successes: int, n: int) -> Estimate:
    """Return the share of successes with Wilson's interval.

    Raises ``ValueError`` unless 0 <= successes <= n and n >= 1.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"successes is {successes} of {n}; allowed: 0 to n, with n 1 or more")
    interval = binomtest(successes, n).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high), n, n)


def bootstrap(
    statistic: Statistic, n: int, clusters: ArrayLike | None = None, *, seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """Return a statistic of ``n`` rows with its percentile interval.

    ``clusters`` names the cluster of each row, ``[N]``. If it is None, each row is its own cluster.
    """
    if n < 1:
        raise ValueError("n is 0; allowed: 1 or more")
    k = n
    rows_of: slice | NDArray[np.intp] = slice(None)
    if clusters is not None:
        names = np.asarray(clusters)
        if names.shape != (n,):
            raise ValueError(f"clusters has shape {names.shape}; allowed: ({n},), one for each row")
        distinct, rows_of = np.unique(names, return_inverse=True)
        k = len(distinct)
    value = float(statistic(np.ones((1, n)))[0])
    if k < FEWEST_CLUSTERS:
        return Estimate(value, None, None, n, k)
    draws = resamples_of(k, seed, resamples, max(1, _WEIGHTS_AT_ONCE // n))
    values = [statistic(drawn_BK[:, rows_of].astype(np.float64)) for drawn_BK in draws]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(values), [tail, 1 - tail])
    return Estimate(value, float(low), float(high), n, k)


def resamples_of(k: int, seed: int, resamples: int, at_once: int) -> Iterator[NDArray[np.integer]]:
    """Yield how often each of ``k`` clusters is in each resample, ``[B, K]``, for ``at_once`` resamples at a time.

    Equal arguments give equal resamples, and the same ones for every ``at_once``.
    """
    rng = np.random.default_rng(seed)
    kept = _drawn(k, seed, resamples) if k * resamples <= _WEIGHTS_AT_ONCE else None
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        yield rng.multinomial(k, np.full(k, 1 / k), size=size) if kept is None else kept[start : start + size]


@lru_cache(maxsize=64)
def _drawn(k: int, seed: int, resamples: int) -> NDArray[np.int32]:
    # Kept, because drawing takes most of an interval's time, and the cells of a report have a few numbers of items.
    return np.random.default_rng(seed).multinomial(k, np.full(k, 1 / k), size=resamples).astype(np.int32)


def mean(values: ArrayLike, clusters: ArrayLike | None = None) -> Estimate:
    """Return the mean of ``[N]`` values."""
    return ratio_of_sums(values, np.ones(len(np.asarray(values))), clusters)


def ratio_of_sums(parts: ArrayLike, wholes: ArrayLike, clusters: ArrayLike | None = None) -> Estimate:
    """Return the sum of parts over the sum of wholes, ``[N]`` each: a rate such as reused tokens over tokens."""
    parts_N, wholes_N = _paired(parts, wholes)
    names, cluster_N = np.unique(
        np.arange(len(parts_N)) if clusters is None else np.asarray(clusters), return_inverse=True
    )
    if cluster_N.shape != parts_N.shape:
        raise ValueError(f"clusters has shape {cluster_N.shape}; allowed: ({len(parts_N)},), one for each row")
    # A resample weighs the rows of a cluster alike, so their sums suffice, and there are far fewer of them.
    parts_K, wholes_K = (np.bincount(cluster_N, column) for column in (parts_N, wholes_N))
    found = bootstrap(lambda weights_BK: (weights_BK @ parts_K) / (weights_BK @ wholes_K), len(names))
    return replace(found, n=len(parts_N))


def median(values: ArrayLike, clusters: ArrayLike | None = None) -> Estimate:
    """Return the median of ``[N]`` values."""
    values_N = _known(values)
    return bootstrap(weighted_medians(values_N), len(values_N), clusters)


def mean_of_medians(values: ArrayLike, groups: ArrayLike, clusters: ArrayLike | None = None) -> Estimate:
    """Return the mean over groups of each group's median; ``groups`` names the group of each of ``[N]`` values.

    A resample that misses a group takes the mean over the other groups.
    """
    values_N, groups_N = _known(values), np.asarray(groups)
    parts = [(groups_N == name, weighted_medians(values_N[groups_N == name])) for name in np.unique(groups_N)]

    def statistic(weights_BN: Floats) -> Floats:
        means: Floats = np.nanmean([medians(weights_BN[:, own]) for own, medians in parts], axis=0)
        return means

    return bootstrap(statistic, len(values_N), clusters)


def paired_difference(ours: ArrayLike, theirs: ArrayLike, clusters: ArrayLike | None = None) -> Estimate:
    """Return the mean of ours minus theirs over ``[N]`` pairs."""
    ours_N, theirs_N = _paired(ours, theirs)
    return mean(ours_N - theirs_N, clusters)


def paired_ratio(slower: ArrayLike, faster: ArrayLike, clusters: ArrayLike | None = None) -> Estimate:
    """Return the speedup: the median of slower / faster over ``[N]`` pairs.

    Raises ``ValueError`` unless all times are above 0.
    """
    slower_N, faster_N = _paired(slower, faster)
    if min(slower_N.min(), faster_N.min()) <= 0:
        raise ValueError(f"a time is {min(slower_N.min(), faster_N.min())}; allowed: above 0")
    return median(slower_N / faster_N, clusters)


def mcnemar(ours: ArrayLike, theirs: ArrayLike) -> McNemar:
    """Test ``[N]`` pairs of correct (True) and wrong (False) answers. Pairs must be independent: one per item."""
    ours_N, theirs_N = (np.asarray(right, dtype=bool) for right in (ours, theirs))
    if ours_N.shape != theirs_N.shape:
        raise ValueError(f"{len(theirs_N)} answers stand beside {len(ours_N)}; allowed: as many")
    only_ours, only_theirs = int((ours_N & ~theirs_N).sum()), int((theirs_N & ~ours_N).sum())
    disagree = only_ours + only_theirs
    return McNemar(only_ours, only_theirs, float(binomtest(only_ours, disagree).pvalue) if disagree else 1.0)


def tails(values: ArrayLike) -> Tails:
    """Return the median and tail quantiles of ``[N]`` values, with linear interpolation."""
    values_N = _known(values)
    n = len(values_N)
    p50, p90, p99 = (float(value) for value in np.quantile(values_N, [0.5, 0.9, 0.99]))
    return Tails(n, p50, p90 if n >= 10 else None, p99 if n >= 100 else None)


def mean_of_moments(mean: float, sd: float, n: int) -> Estimate:
    """Return the mean of ``n`` independent numbers with its normal interval, given only their mean and standard
    deviation."""
    if n < 2 or sd < 0:
        raise ValueError(f"n is {n} and sd {sd}; allowed: n 2 or more, sd 0 or more")
    half = _Z * sd / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n, n)


def rank_correlation(rho: float, n: int) -> Estimate:
    """Return Spearman's correlation of ``n`` pairs with the interval of Bonett and Wright (Psychometrika 65, 2000).

    They use Fisher's transform with the standard error sqrt((1 + rho^2 / 2) / (n - 3)).
    """
    if n < 4 or not -1 <= rho <= 1:
        raise ValueError(f"n is {n} and rho {rho}; allowed: n 4 or more, rho -1 to 1")
    if abs(rho) == 1:
        return Estimate(rho, rho, rho, n, n)
    half = _Z * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return Estimate(rho, math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half), n, n)


def spearman(xs: ArrayLike, ys: ArrayLike, clusters: ArrayLike | None = None) -> Estimate | None:
    """Return Spearman's correlation of ``[N]`` pairs; ties have the mean of their ranks.

    None if all values of either are equal, which have no order. A resample without order has no correlation; if there
    is one among the resamples, there is no interval.
    """
    xs_N, ys_N = _paired(xs, ys)
    if min(np.ptp(xs_N), np.ptp(ys_N)) == 0:
        return None
    ranks = _weighted_ranks(xs_N), _weighted_ranks(ys_N)

    def statistic(weights_BN: Floats) -> Floats:
        total_B1 = weights_BN.sum(axis=1, keepdims=True)
        x_BN, y_BN = (rank(weights_BN) for rank in ranks)
        x_BN, y_BN = (one - (weights_BN * one).sum(axis=1, keepdims=True) / total_B1 for one in (x_BN, y_BN))
        xy_B, xx_B, yy_B = ((weights_BN * one).sum(axis=1) for one in (x_BN * y_BN, x_BN**2, y_BN**2))
        with np.errstate(invalid="ignore", divide="ignore"):
            rho_B: Floats = np.where(np.minimum(xx_B, yy_B) > _NO_ORDER, xy_B / np.sqrt(xx_B * yy_B), np.nan)
        return rho_B

    found = bootstrap(statistic, len(xs_N), clusters)
    defined = all(end is not None and np.isfinite(end) for end in (found.low, found.high))
    return found if defined else replace(found, low=None, high=None)


def _weighted_ranks(values_N: Floats) -> Statistic:
    """Return a function from weights ``[B, N]`` to ranks ``[B, N]``, where each value occurs as often as it weighs."""
    order_N = np.argsort(values_N, kind="stable")
    _, group_N, size_K = np.unique(values_N, return_inverse=True, return_counts=True)
    start_K = np.concatenate([[0], np.cumsum(size_K)[:-1]])

    def ranks(weights_BN: Floats) -> Floats:
        count_BK = np.add.reduceat(weights_BN[:, order_N], start_K, axis=1)
        mean_BN: Floats = (np.cumsum(count_BK, axis=1) - (count_BK - 1) / 2)[:, group_N]
        return mean_BN

    return ranks


def weighted_medians(values_N: Floats) -> Statistic:
    """Return a statistic: the weighted median of the values; NaN where all weights are 0."""
    order_N = np.argsort(values_N, kind="stable")
    sorted_N = values_N[order_N]

    def statistic(weights_BN: Floats) -> Floats:
        upto_BN = np.cumsum(weights_BN[:, order_N], axis=1)
        total_B = upto_BN[:, -1]
        # For a total of 5 this is the third value, for 6 the mean of the third and the fourth.
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
