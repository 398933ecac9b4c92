"""Changes from arm A to arm B over the items or turns that both have, with intervals.

Frames hold the rows of both arms side by side; the columns of A end in ``_a``.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis import stats
from analysis.arms import Arm
from analysis.stats import Estimate, Floats
from analysis.turn_columns import TURN


def same_turns(a: Arm, b: Arm, on: str) -> pd.DataFrame:
    """Join the turns that both arms have; ``on`` is the column that identifies the trial."""
    return b.turns.merge(a.turns, on=[on, *TURN], suffixes=("", "_a"))


def same_items(a: Arm, b: Arm, on: str) -> pd.DataFrame:
    """Join the samples that both arms have, whatever their order."""
    return b.samples.merge(a.samples, on=[on, "item_id"], suffixes=("", "_a"))


def token_reuse_change(turns: pd.DataFrame) -> Estimate | None:
    """Return the difference of the two rates, each over all of these turns, in percentage points."""
    if turns.empty:
        return None
    columns = ("reused_tokens", "prompt_tokens", "reused_tokens_a", "prompt_tokens_a")
    reused, prompt, reused_a, prompt_a = (turns[column].to_numpy(dtype=np.float64) for column in columns)

    def difference(weights_BN: Floats) -> Floats:
        rate_B, rate_a_B = (
            (weights_BN @ reused) / (weights_BN @ prompt),
            (weights_BN @ reused_a) / (weights_BN @ prompt_a),
        )
        change_B: Floats = rate_B - rate_a_B
        return change_B

    return stats.bootstrap(difference, len(turns), turns["item"]).scaled(100)


def known_in_both(turns: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the turns for which both arms know all these columns."""
    return turns.dropna(subset=[name for column in columns for name in (column, f"{column}_a")])


def difference(turns: pd.DataFrame, column: str) -> Estimate | None:
    """Return the difference of the means of a column that both arms know."""
    return None if turns.empty else stats.paired_difference(turns[column], turns[f"{column}_a"], turns["item"])


def ratio_of_means(turns: pd.DataFrame, column: str) -> Estimate | None:
    """Return mean B / mean A: None if A's mean is 0, without an interval if it is 0 in some resamples."""
    if turns.empty or not turns[f"{column}_a"].sum():
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = stats.ratio_of_sums(turns[column], turns[f"{column}_a"], turns["item"])
    finite = all(end is None or np.isfinite(end) for end in (ratio.low, ratio.high))
    return ratio if finite else replace(ratio, low=None, high=None)
