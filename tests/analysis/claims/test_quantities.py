"""The rows of claims give the measures of ``analysis/measures.py``, and resamples draw items."""

from pathlib import Path
from statistics import mean

import numpy as np
import pandas as pd
import pytest

from analysis import measures
from analysis.arms import Arms
from analysis.claims.quantities import QUANTITIES
from analysis.claims.resampling import RESAMPLES, resample
from analysis.results import Results

SHIPPED = Path(__file__).parents[3] / "analysis" / "embedded"
PLACES = {"speedup": "table_2", "mean_speedup": "table_2", "ttft_sum_speedup": "table_2", "match_time": "table_a5"}
"""Shipped sweeps that hold a measure; all others are in ``table_5``, whose dense arm is in ``table_1``."""


@pytest.mark.parametrize("name", QUANTITIES)
def test_quantities_are_the_measures_of_their_names(name):
    """Catches another unit, other turns, and another mean than what the tables print under the name."""
    results = Results(SHIPPED / PLACES.get(name, "table_5"))
    trial = results.trials[results.trials["method"] == "kvcomm"]["trial_id"].iloc[-1]
    arm = Arms(results).of([trial])
    known = getattr(measures, name)(arm)
    quantity = QUANTITIES[name]
    if known is None:
        assert name in ("kl_continuation", "top1_continuation", "latency_speedup", "speedup"), name
        assert quantity.rows(arm).empty
        return
    [found] = resample(quantity, [quantity.rows(arm)])
    assert found.value == pytest.approx(known.value)
    assert set(quantity.key) <= {*quantity.rows(arm).columns, "seed"}


def test_resamples_draw_whole_items_and_the_same_for_both_arms():
    """Catches turns drawn one by one, and arms drawn apart: then differences of equal arms would scatter."""
    ours = pd.DataFrame({"item": list("aabbcc"), "value": [0.0, 0.0, 3.0, 3.0, 6.0, 6.0]})
    theirs = ours.assign(value=ours["value"] - 1)
    first, second = resample(QUANTITIES["accuracy"], [ours, theirs])
    assert (first - second).draws_B == pytest.approx(np.ones(RESAMPLES))
    by_hand = {mean(draw) for draw in ((a, b, c) for a in (0, 3, 6) for b in (0, 3, 6) for c in (0, 3, 6))}
    assert set(np.round(first.draws_B, 6)) == by_hand
    assert first.planned_variance(0) == pytest.approx(np.var([0, 3, 6]), rel=0.05)


def test_arms_without_shared_items_are_independent():
    """Catches resamples in which an arm of few repeats has none."""
    ours = pd.DataFrame({"item": ["a", "b"], "value": [1.0, 3.0]})
    theirs = pd.DataFrame({"item": ["c", "d"], "value": [1.0, 3.0]})
    first, second = resample(QUANTITIES["accuracy"], [ours, theirs])
    assert np.isfinite(first.draws_B).all()
    assert abs(np.corrcoef(first.draws_B, second.draws_B)[0, 1]) < 0.05
    assert (first - second).planned_variance(0) == pytest.approx(2 * (0.5 + 0.5), rel=0.05)


def test_p_values():
    """Catches a p-value of 0, the tail of the other side, and unknown resamples that count for a claim."""
    rows = pd.DataFrame({"item": range(100), "value": np.arange(100.0)})
    [found] = resample(QUANTITIES["accuracy"], [rows])
    assert found.chance_of_more(0) == 1 / (1 + RESAMPLES)
    assert (-found).chance_of_more(0) == 1.0
    assert found.chance_of_more(found.value) == pytest.approx(0.5, abs=0.02)
    unknown = type(found)(found.value, np.full(9, np.nan), 9)
    assert unknown.chance_of_more(0) == (-unknown).chance_of_more(0) == 1.0
