"""The distance of an arm's turns from dense, with those that the arm computed densely.

A method that falls back to dense, or to an exact prefix, on hard turns pays for it in computed tokens. So such a turn
counts here, too, with no distance: KL 0 and full agreement. (The table of fidelity leaves it out.) This needs trials
whose every reusing turn was compared with dense, ``fidelity: 1``; of others nobody knows how much their dense turns
should weigh.
"""

import json
from typing import Literal

import pandas as pd

from analysis.arms import Arm, reusing
from analysis.turn_columns import TURN

Measure = Literal["kl_next_token", "kl_continuation", "greedy_agreement"]


def turn_errors(arm: Arm, measure: Measure, of: "pd.Series[bool] | None" = None) -> "pd.Series[float]":
    """Return the measure of each turn that has one; empty if the arm was not compared in full. ``of`` selects turns.

    The index holds the item, and what identifies the same turn in all arms of a situation. A turn whose answer was
    given has no agreement, and has a continuation only if the answer was dense's.
    """
    turns = arm.turns
    values = turns[measure].astype("float64")
    exact = ~reusing(turns)
    if measure == "greedy_agreement" or (measure == "kl_continuation" and not _follows_dense(arm)):
        exact &= turns["stop_reason"] != "given"
    values = values.mask(exact, 1.0 if measure == "greedy_agreement" else 0.0)
    known = values.notna() if of is None else values.notna() & of
    if not compared_in_full(arm):
        known &= False
    index = pd.MultiIndex.from_frame(turns.loc[known, ["item", "pair", *TURN]].astype(object))
    return pd.Series(values[known].to_numpy(), index=index)


def compared_in_full(arm: Arm) -> bool:
    """Return whether every reusing turn of the arm's successful trials was compared with dense."""
    ok = arm.trials[arm.trials["status"] == "ok"]
    return len(ok) > 0 and all(json.loads(text)["fidelity"] == 1 for text in ok["spec_json"])


def _follows_dense(arm: Arm) -> bool:
    """Return whether the given answers are those of dense turns on the same prompts."""
    return any(json.loads(text).get("answers") == "dense" for text in arm.trials["spec_json"])
