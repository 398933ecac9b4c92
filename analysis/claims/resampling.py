"""Arms resampled together, by item, and one-sided p-values from the resamples.

A resample draws items, and every arm that has an item gets it as often as it was drawn. So arms with the same items are
compared item by item, and arms with different ones as independent. The p-value of 'above a threshold' is the share of
resamples that are not above it, which inverts the percentile interval of ``analysis/stats.py``; the observed sample
counts as one of them, so that no p-value is 0. Where an item's difference is bounded, no p-value is below the chance of
having drawn none of the items that would put the true number on the threshold: resamples of items that do not differ
never differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis import stats
from analysis.claims.quantities import Quantity
from analysis.stats import Floats

RESAMPLES = 20_000
"""The smallest p-value is 1 / 20,001: enough to decide 100 claims together, be it against the order of five cells."""

_WEIGHTS_AT_ONCE = 4_000_000


@dataclass(frozen=True, slots=True)
class Resampled:
    """A number, and its values over resamples."""

    value: float
    draws_B: Floats
    """NaN where a resample has no rows for it; that counts against every claim about it."""
    n_items: int
    """Items of the smallest arm."""
    reach: float | None = None
    """The most that one item can add to a difference of two such numbers; None if there is no such bound."""

    def __sub__(self, other: "Resampled | float") -> "Resampled":
        if isinstance(other, Resampled):
            return replace(self, value=self.value - other.value, draws_B=self.draws_B - other.draws_B)
        return replace(self, value=self.value - other, draws_B=self.draws_B - other)

    def __neg__(self) -> "Resampled":
        return replace(self, value=-self.value, draws_B=-self.draws_B)

    def chance_of_more(self, threshold: float) -> float:
        """Return the one-sided p-value of 'the true number is above the threshold'."""
        not_above = int((~(self.draws_B > threshold)).sum())
        chance = (1 + not_above) / (1 + len(self.draws_B))
        if self.reach is None or self.value <= threshold:
            return chance
        unseen = min(1.0, (self.value - threshold) / self.reach)
        return max(chance, float((1 - unseen) ** self.n_items))

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return the percentile interval; NaN if a resample has no value."""
        low, high = np.quantile(self.draws_B, [(1 - confidence) / 2, (1 + confidence) / 2])
        return float(low), float(high)

    def planned_variance(self, _: float) -> float:
        """Return the variance of one item: that over the resamples that have a value, times the number of items."""
        known_B = self.draws_B[np.isfinite(self.draws_B)]
        return self.n_items * float(np.var(known_B)) if len(known_B) else 0.0


def resample(quantity: Quantity, arms: Sequence[pd.DataFrame], *, seed: int = 0) -> list[Resampled]:
    """Resample the rows of several arms together, ``item`` by item.

    Items that the same arms have are drawn among each other, so that every resample has as many rows of each kind.
    """
    names, cluster_N = np.unique(np.concatenate([rows["item"].astype(str) for rows in arms]), return_inverse=True)
    own = np.split(cluster_N, np.cumsum([len(rows) for rows in arms])[:-1])
    has_KA = np.stack([np.isin(np.arange(len(names)), cluster) for cluster in own], axis=1)
    kinds = [np.flatnonzero((has_KA == kind).all(axis=1)) for kind in np.unique(has_KA, axis=0)]
    at_once = max(1, _WEIGHTS_AT_ONCE // max(len(names), *(len(rows) for rows in arms)))
    draws = [stats.resamples_of(len(kind), seed + index, RESAMPLES, at_once) for index, kind in enumerate(kinds)]
    statistics = [quantity.statistic(rows) for rows in arms]
    drawn: list[list[Floats]] = [[] for _ in arms]
    with np.errstate(invalid="ignore", divide="ignore"):
        for parts in zip(*draws, strict=True):
            weights_BK = np.empty((len(parts[0]), len(names)))
            for kind, part in zip(kinds, parts, strict=True):
                weights_BK[:, kind] = part
            for values, statistic, cluster in zip(drawn, statistics, own, strict=True):
                values.append(statistic(weights_BK[:, cluster]))
        wholes = [
            float(statistic(np.ones((1, len(rows))))[0]) for statistic, rows in zip(statistics, arms, strict=True)
        ]
    n_items = min(len(np.unique(cluster)) for cluster in own)
    return [
        Resampled(whole, np.concatenate(values), n_items, quantity.reach)
        for whole, values in zip(wholes, drawn, strict=True)
    ]
