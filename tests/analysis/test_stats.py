"""Intervals and tests against known answers: enumeration, simulation, scipy, and cases worked by hand."""

from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from analysis import stats


def any_drawn(rows):
    """Whether a resample has any row; the last number of each is its weight."""
    return any(row[-1] for row in rows)


WEIGHTED = st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 4)), min_size=1, max_size=12).filter(any_drawn)


def test_wilson_by_hand():
    """Catches the plain normal interval: Wilson's for 8 of 10, worked out with z = 1.959964."""
    z, p, n = 1.959964, 0.8, 10
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    estimate = stats.proportion(8, 10)
    assert (estimate.value, estimate.n) == (0.8, 10)
    assert (estimate.low, estimate.high) == pytest.approx((centre - half, centre + half), abs=1e-6)
    none = stats.proportion(0, 10)
    assert (none.value, none.low) == (0.0, 0.0)
    assert none.high == pytest.approx(z * z / (10 + z * z), abs=1e-6)


@pytest.mark.parametrize(("n", "p"), [(24, 0.1), (24, 0.5), (153, 0.68), (1319, 0.81)])
def test_wilson_covers(n, p):
    """Catches an interval at another level. Enumerated, so exact; Wilson's is near 95 % but oscillates with n and p."""
    covered = 0.0
    for successes in range(n + 1):
        estimate = stats.proportion(successes, n)
        covered += scipy_stats.binom.pmf(successes, n, p) * (estimate.low <= p <= estimate.high)
    assert 0.93 <= covered <= 0.98


def test_cluster_bootstrap_covers_where_the_plain_one_does_not():
    """Catches rows resampled instead of items. 40 items of 4 turns each, which differ more between than within items.

    Of 400 simulations at 95 % the share that covers has a standard error of 1.1 points. The percentile interval of 40
    clusters is known to be a little narrow (about 94 %), so 90 to 98 % is more than three standard errors around it.
    """
    rng = np.random.default_rng(7)
    items = np.repeat(np.arange(40), 4)
    covered = {"items": 0, "rows": 0}
    for _ in range(400):
        values = rng.normal(size=40)[items] + 0.3 * rng.normal(size=160)

        def statistic(weights, values=values):
            return weights @ values / weights.sum(axis=1)

        for name, clusters in (("items", items), ("rows", None)):
            estimate = stats.bootstrap(statistic, 160, clusters, resamples=400)
            covered[name] += estimate.low <= 0 <= estimate.high
    assert 0.90 <= covered["items"] / 400 <= 0.98
    assert covered["rows"] / 400 < 0.80


def test_bootstrapped_median_ratio_covers():
    """Catches an interval of the wrong statistic: the true median of the ratio of two log-normal times is 3.

    300 simulations: standard error 1.3 points.
    """
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(300):
        theirs = rng.lognormal(size=60)
        slower = 3 * theirs * rng.lognormal(sigma=0.5, size=60)
        estimate = stats.paired_ratio(slower, theirs)
        covered += estimate.low <= 3 <= estimate.high
    assert 0.90 <= covered / 300 <= 0.99


def test_resamples_do_not_depend_on_how_many_are_drawn_at_once(monkeypatch):
    """Catches a cache that is cut at the wrong places, or holds other draws than those that are not kept."""
    kept = np.concatenate(list(stats.resamples_of(7, 3, 50, 8)))
    monkeypatch.setattr(stats, "_WEIGHTS_AT_ONCE", 7 * 50 - 1)
    drawn = list(stats.resamples_of(7, 3, 50, 8))
    assert [len(part) for part in drawn] == [8] * 6 + [2]
    assert np.array_equal(kept, np.concatenate(drawn))
    assert np.array_equal(kept, np.random.default_rng(3).multinomial(7, np.full(7, 1 / 7), size=50))


def test_bootstrap_agrees_with_scipy():
    """Catches quantiles of something else. Both ends are off by their Monte Carlo error, here below 1 % of a spread."""
    rng = np.random.default_rng(1)
    values = rng.exponential(size=80)
    for ours, numpy_one in ((stats.mean, np.mean), (stats.median, np.median)):
        theirs = scipy_stats.bootstrap(
            (values,), numpy_one, n_resamples=20000, method="percentile", rng=np.random.default_rng(2)
        ).confidence_interval
        estimate = ours(values)
        assert estimate.value == pytest.approx(numpy_one(values))
        spread = theirs.high - theirs.low
        assert estimate.low == pytest.approx(theirs.low, abs=0.06 * spread)
        assert estimate.high == pytest.approx(theirs.high, abs=0.06 * spread)


@given(WEIGHTED)
def test_weighted_medians_are_medians_of_repeated_values(rows):
    """Catches an off-by-one at even totals, at weight 0 and at ties."""
    values, weights = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    repeated = [value for value, weight in rows for _ in range(weight)]
    assert stats.weighted_medians(values)(weights[None, :])[0] == median(repeated)


def test_clusters_are_drawn_whole():
    """Catches clusters whose rows are drawn one by one: two turns of an item that cancel out always do."""
    items = np.repeat(np.arange(10), 2)
    ours, theirs = np.tile([1.0, -1.0], 10), np.zeros(20)
    estimate = stats.paired_difference(ours, theirs, items)
    assert (estimate.value, estimate.low, estimate.high) == (0.0, 0.0, 0.0)
    assert (estimate.n, estimate.n_clusters) == (20, 10)
    alone = stats.paired_difference(ours, theirs)
    assert alone.low < 0 < alone.high


def test_the_same_rows_give_the_same_interval():
    """Catches an unseeded generator, and memory that grows with rows times resamples (chunks must not matter)."""
    values = np.random.default_rng(0).normal(size=50)
    assert stats.median(values) == stats.median(values)
    assert stats.mean(values) == stats.mean(list(values))


def test_few_clusters_have_no_interval():
    """Catches an interval made of three repeats."""
    estimate = stats.median([1.0, 2.0, 9.0, 1.0, 2.0, 9.0], [0, 1, 2, 0, 1, 2])
    assert estimate == stats.Estimate(2.0, None, None, 6, 3)
    assert estimate.scaled(1000.0) == stats.Estimate(2000.0, None, None, 6, 3)
    assert stats.median([1.0, 2.0, 3.0, 4.0, 9.0]).low is not None


def test_ratio_of_sums_is_not_a_mean_of_ratios():
    """Catches a rate in which a prompt of 10 tokens counts as much as one of 90."""
    assert stats.ratio_of_sums([10, 0], [10, 90]).value == 0.1


def test_mean_of_medians():
    """Catches a median over all agents. By hand: medians 2 and 10."""
    values, agents = [1, 2, 3, 9, 10, 11], [1, 1, 1, 2, 2, 2]
    estimate = stats.mean_of_medians(values, agents, [0, 1, 2, 0, 1, 2])
    assert estimate.value == 6.0
    lone = stats.mean_of_medians([1.0] * 6 + [5.0], [1] * 6 + [2], np.arange(7))
    assert (lone.value, lone.low) == (3.0, 1.0)


def test_paired_ratio_is_the_median_of_ratios():
    """Catches the ratio of medians: 10 / 2 here."""
    assert stats.paired_ratio([8, 10, 30], [4, 1, 2]).value == 10.0
    with pytest.raises(ValueError, match=r"a time is 0.0; allowed: above 0"):
        stats.paired_ratio([1.0, 2.0], [1.0, 0.0])


def test_mcnemar_by_hand():
    """Catches agreeing pairs in the test, a one-sided p, and the chi-square approximation: 1 against 5 of 6 flips."""
    ours = [True] * 10 + [True] + [False] * 5 + [False] * 3
    theirs = [True] * 10 + [False] + [True] * 5 + [False] * 3
    test = stats.mcnemar(ours, theirs)
    assert (test.only_ours, test.only_theirs) == (1, 5)
    assert test.p_value == pytest.approx(2 * (1 + 6) / 2**6)
    assert stats.mcnemar(theirs, ours).p_value == test.p_value
    assert stats.mcnemar([True, False], [True, False]).p_value == 1.0


def test_tails():
    """Catches a p99 of ten values, which is their maximum and says nothing of the tail."""
    assert stats.tails(range(1, 12)) == stats.Tails(11, 6.0, 10.0, None)
    assert stats.tails(range(101)) == stats.Tails(101, 50.0, 90.0, 99.0)
    assert stats.tails([3.0]) == stats.Tails(1, 3.0, None, None)


def test_bad_values():
    """Catches unknown values that are dropped or counted as 0, and pairs of unequal length."""
    for call in (
        lambda: stats.mean([]),
        lambda: stats.median([1.0, float("nan")]),
        lambda: stats.tails([float("inf")]),
        lambda: stats.paired_difference([1.0], [1.0, 2.0]),
        lambda: stats.mean([1.0, 2.0], clusters=[1]),
        lambda: stats.mcnemar([True], [True, False]),
        lambda: stats.proportion(3, 2),
        lambda: stats.proportion(0, 0),
        lambda: stats.bootstrap(lambda weights: weights.sum(axis=1), 0),
    ):
        with pytest.raises(ValueError, match="allowed: "):
            call()


def test_the_mean_of_moments_is_the_normal_interval():
    """Catches a standard deviation taken for a standard error, against scipy on the numbers themselves."""
    numbers = np.random.default_rng(0).normal(3, 2, size=50)
    got = stats.mean_of_moments(float(numbers.mean()), float(numbers.std(ddof=1)), 50)
    low, high = scipy_stats.norm.interval(0.95, numbers.mean(), scipy_stats.sem(numbers))
    assert (got.value, got.low, got.high) == pytest.approx((numbers.mean(), low, high))
    assert (got.n, got.n_clusters) == (50, 50)
    with pytest.raises(ValueError, match="n is 1"):
        stats.mean_of_moments(0.0, 1.0, 1)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_the_interval_of_a_rank_correlation_covers(rho):
    """Catches the interval of Pearson's correlation or a wrong n, by simulation: it holds the true value in about 95 of
    100 samples."""
    rng = np.random.default_rng(1)
    # Of two normal variables with Pearson's correlation r, Spearman's is 6 / pi * asin(r / 2).
    r = 2 * np.sin(np.pi * rho / 6)
    inside = 0
    for _ in range(1000):
        pairs = rng.multivariate_normal([0, 0], [[1, r], [r, 1]], size=60)
        got = stats.rank_correlation(float(scipy_stats.spearmanr(*pairs.T).statistic), 60)
        inside += got.low <= rho <= got.high
    assert 930 <= inside <= 970
    assert stats.rank_correlation(1.0, 10).low == 1.0
    with pytest.raises(ValueError, match="n is 3"):
        stats.rank_correlation(0.5, 3)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 3)), min_size=3, max_size=9).filter(
        any_drawn
    )
)
def test_spearman_of_a_resample_is_that_of_its_rows(rows):
    """Catches ranks of the rows instead of the resample, and ties that do not share one rank, against scipy's on the
    rows written out as often as a resample has them."""
    xs, ys, weights = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    seen = {}

    def bootstrap(statistic, *_):
        seen["plain"], seen["drawn"] = statistic(np.ones((1, len(xs))))[0], statistic(np.stack([weights] * 2))
        return stats.Estimate(float(seen["plain"]), None, None, len(xs), len(xs))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stats, "bootstrap", bootstrap)
        found = stats.spearman(xs, ys)
    if len(set(xs)) == 1 or len(set(ys)) == 1:
        assert found is None
        return
    assert found.value == pytest.approx(scipy_stats.spearmanr(xs, ys).statistic)
    drawn_x, drawn_y = (np.repeat(values, weights.astype(int)) for values in (xs, ys))
    if len(set(drawn_x)) < 2 or len(set(drawn_y)) < 2:
        assert np.isnan(seen["drawn"]).all()
    else:
        assert seen["drawn"] == pytest.approx([scipy_stats.spearmanr(drawn_x, drawn_y).statistic] * 2)


def test_spearman_resamples_items():
    """Catches turns resampled one by one, which would make the interval of copies as narrow as that of new turns."""
    rng = np.random.default_rng(3)
    xs = rng.normal(size=30)
    ys = xs + rng.normal(size=30)
    once = stats.spearman(xs, ys)
    copied = stats.spearman(np.tile(xs, 9), np.tile(ys, 9), np.tile(np.arange(30), 9))
    assert copied.value == pytest.approx(once.value)
    assert (copied.n, copied.n_clusters) == (270, 30)
    assert copied.high - copied.low == pytest.approx(once.high - once.low, abs=0.02)
    assert stats.spearman([1, 1, 1, 1, 1, 2], [1, 2, 3, 4, 5, 6]).low is None, "some resamples have no order"
