"""Arms that the tables of the same results share."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from analysis.arms import arms_of
from analysis.conversations import gain
from analysis.results import Results, plain_values
from analysis.turn_columns import BESIDE, TURN, UNREAD
from harness.results.arrow_schemas import SCHEMAS
from harness.spec import TrialSpec
from kvcomm_core.config import KVCommConfig

DENSE, KVCOMM = TrialSpec(agents=2), TrialSpec(agents=2, method="kvcomm", parameters=KVCommConfig())


@pytest.fixture
def results(write, make_result):
    return Results(write(make_result(DENSE, samples=6), make_result(KVCOMM, samples=6)))


def test_arms_are_shared_by_results_alone(results):
    """Catches rows of one ``Results`` in the tables of another, such as the warm-up that ``--from-sample`` drops."""
    arms = arms_of(results)
    assert arms_of(results) is arms
    arm = arms.of([KVCOMM.trial_id])
    assert arms.of([KVCOMM.trial_id]) is arm
    assert arms.of([DENSE.trial_id]) is not arm
    later = arms_of(results.from_sample(3)).of([KVCOMM.trial_id])
    assert (len(arm.turns), len(later.turns)) == (12, 6)
    # The first of 6 items is dense: 6 * 0.4 / (0.4 + 5 * 0.2) and, without it, 2.
    for name, expected in (("ttft_sum_s", 2.4 / 1.4), ("latency_s", 14.4 / 13.4)):
        assert gain(arm, "dense", name).value == pytest.approx(expected)
    assert gain(later, "dense", "ttft_sum_s").value == pytest.approx(2)


def test_beside_joins_what_is_compared(results):
    """Catches a column that tables compare and the join leaves out, and the columns of dense without their suffix."""
    pairs = arms_of(results).of([KVCOMM.trial_id]).beside("dense")
    assert {f"{name}_dense" for name in BESIDE} <= set(pairs)
    assert set(pairs["ttft_s_dense"]) == {0.2}
    assert set(pairs.loc[pairs["mode"] == "reuse", "ttft_s"]) == {0.1}


def test_what_arms_lack_is_a_column_of_turns(results):
    """Catches a misspelt name, which would keep its column, and one that tables do read."""
    assert set(SCHEMAS["turns"].names) >= UNREAD
    assert not UNREAD & set(arms_of(results).of([KVCOMM.trial_id]).turns)
    assert not UNREAD & {"trial_id", *TURN, *BESIDE}


def test_plain_values_are_those_of_records():
    """Catches a null that becomes a number, NaN taken for null, and numbers of Arrow's or numpy's types."""
    column = pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array([pa.array([1.5, None, float("nan")])])))
    first, missing, undefined = plain_values(column)
    assert (first, missing, type(first)) == (1.5, None, float)
    assert np.isnan(undefined)
    assert plain_values(pd.Series([1, None], dtype=object)) == [1, None]
