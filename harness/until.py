"""Trials that go on until they know a mean well enough, or until their items end.

After every batch from the ``SMALLEST``-th item on, the interval of the mean is computed from the items so far. The
trial ends once its half-width is at most the one asked for: Chow and Robbins' fixed-width rule (1965). The mean should
then lie within that distance in 95 % of trials. An interval of 95 % would not do that: skewed values, as KL divergences
are, look least spread where their mean is too low, and looking often finds such a moment. So the rule takes the
interval of 99 %. Simulated with log-normal values (sigma 1) it holds in 97 % of trials, with 95 % in 87 to 88 %; with
sigma 1.3 it holds in 89 to 95 %. What a trial has seen decides, so a resumed trial ends where it would have ended.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from math import sqrt
from operator import attrgetter
from statistics import NormalDist, fmean, stdev
from typing import TYPE_CHECKING

from harness.results.trial_result import SampleRecord, TurnRecord

if TYPE_CHECKING:
    from harness.spec import TrialSpec

SMALLEST = 48
"""Items before the first look. With fewer, the spread of skewed values is often underestimated."""

CONFIDENCE = 0.99
"""Confidence of the interval that the rule looks at."""


def ended_early(spec: "TrialSpec", turns: Sequence[TurnRecord], samples: Sequence[SampleRecord]) -> str | None:
    """Return why a trial needs no more items, for the user; None if it goes on. ``dense`` always does, since other
    trials are compared with it."""
    wanted = (spec.until_kl, spec.until_accuracy)
    if len(samples) < SMALLEST or wanted == (None, None) or spec.method == "dense":
        return None
    known = []
    if spec.until_kl is not None:
        width = kl_half_width(turns)
        if width is None or width > spec.until_kl:
            return None
        known.append(f"KL to {width:.2g} nats (until_kl {spec.until_kl:g})")
    if spec.until_accuracy is not None:
        points = 100 * accuracy_half_width([sample.outcome == "correct" for sample in samples])
        if points > spec.until_accuracy:
            return None
        known.append(f"accuracy to {points:.2g} points (until_accuracy {spec.until_accuracy:g})")
    return f"ended after {len(samples)} items, which give {' and '.join(known)}"


def kl_half_width(turns: Iterable[TurnRecord]) -> float | None:
    """Return the half-width of the interval of the mean next-token KL, in nats, by Student's t over the means of items.
    None with fewer than two items that have a KL."""
    # Import here: most trials need no quantiles.
    from scipy.stats import t

    by_item = [
        [turn.kl_next_token for turn in of_item if turn.kl_next_token is not None]
        for _, of_item in groupby(turns, key=attrgetter("sample_index"))
    ]
    means = [fmean(values) for values in by_item if values]
    if len(means) < 2:
        return None
    return float(t.ppf((1 + CONFIDENCE) / 2, len(means) - 1)) * stdev(means) / sqrt(len(means))


def accuracy_half_width(is_correct: Sequence[bool]) -> float:
    """Return the half-width of Wilson's interval of a share, 0 to 1. At least one item is needed."""
    n, share, z = len(is_correct), fmean(is_correct), NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    return z * sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
