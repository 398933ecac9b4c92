"""Which arms the data tell apart: a paired test over items for each pair, corrected for their number.

For each item, the measure's difference between two arms is averaged over the turns that both have. The null hypothesis
is that each item's difference is as likely to have the other sign. The test draws signs at random and counts how often
the mean is at least as far from 0 (Fisher's randomisation test; two-sided, the observed signs count as one draw). It
tests the mean, which is what the table shows, and assumes no distribution. Holm's procedure (Scandinavian Journal of
Statistics 6, 1979) corrects the p-values for the number of pairs of a situation, so that with a probability of 95 % no
equal pair is called separated.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd

from analysis import stats
from analysis.arena.errors import Measure, turn_errors
from analysis.arena.rows import Entry
from analysis.stats import Estimate, Floats

LEVEL = 0.05
_DRAWS = 20_000
_AT_ONCE = 2_000
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRow:
    """Two arms of a situation, of which ``better`` has the lower mean."""

    situation: str
    measure: Measure
    better: str
    worse: str
    n_items: int
    """Number of items that both took."""
    difference: Estimate
    """The measure of ``worse`` minus that of ``better``, mean over items, on the same turns."""
    p: float
    p_holm: float
    """Corrected for all pairs of the situation."""
    separated: bool


def pair_rows(situation: str, entries: Sequence[Entry], measure: Measure) -> list[PairRow]:
    """Return all pairs of the competing arms of a situation, the surest first. Pairs without a common item are left
    out."""
    errors = {entry.label: turn_errors(entry.arm, measure) for entry in entries if entry.kind == "method"}
    errors = {label: found for label, found in errors.items() if not found.empty}
    n_pairs = len(errors) * (len(errors) - 1) // 2
    rows = []
    for one, other in combinations(errors, 2):
        by_item = item_differences(errors[one], errors[other])
        if by_item.empty:
            continue
        difference = stats.mean(by_item, by_item.index.astype(str))
        better, worse = (other, one) if difference.value > 0 else (one, other)
        rows.append(
            PairRow(
                situation=situation,
                measure=measure,
                better=better,
                worse=worse,
                n_items=len(by_item),
                difference=_absolute(difference),
                p=sign_flip_p(np.asarray(by_item, dtype=np.float64), draws=max(_DRAWS, 100 * n_pairs)),
                p_holm=1.0,
                separated=False,
            )
        )
    corrected = holm([row.p for row in rows])
    rows = [replace(row, p_holm=p, separated=p < LEVEL) for row, p in zip(rows, corrected, strict=True)]
    return sorted(rows, key=lambda row: (row.p_holm, row.better, row.worse))


def item_differences(ours: "pd.Series[float]", theirs: "pd.Series[float]") -> "pd.Series[float]":
    """Return ours minus theirs by item, averaged over the turns that both have."""
    both = pd.concat([ours, theirs], axis=1, join="inner", keys=["ours", "theirs"])
    by_item: pd.Series[float] = (both["ours"] - both["theirs"]).groupby(level="item").mean()
    return by_item


def sign_flip_p(differences_N: Floats, *, draws: int = _DRAWS, seed: int = 0) -> float:
    """Return the two-sided p-value of N differences, 1 if all are 0."""
    rng = np.random.default_rng(seed)
    observed = abs(float(differences_N.sum()))
    at_least = observed - _ROUNDING * float(np.abs(differences_N).sum())
    extreme = 0
    for start in range(0, draws, _AT_ONCE):
        signs_BN = rng.integers(0, 2, size=(min(_AT_ONCE, draws - start), len(differences_N)), dtype=np.int8)
        extreme += int((np.abs((2.0 * signs_BN - 1.0) @ differences_N) >= at_least).sum())
    return (extreme + 1) / (draws + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's corrected p-values, in the order of ``p_values``."""
    corrected = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def _absolute(difference: Estimate) -> Estimate:
    """Return the difference in the direction in which it is positive."""
    if difference.value >= 0 or difference.low is None or difference.high is None:
        return replace(difference, value=abs(difference.value))
    return replace(difference, value=-difference.value, low=-difference.high, high=-difference.low)
