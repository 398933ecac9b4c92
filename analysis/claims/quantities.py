"""The measures that a claim may name, as rows that can be resampled by item.

Each is the measure of the same name in ``analysis/measures.py``, in its unit; a test keeps them equal. There, a measure
is a number with an interval. Here, it is the rows behind the number, so that several arms can be resampled together:
arms that answered the same items are compared item by item.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd

from analysis import stats
from analysis.arms import Arm
from analysis.conversations import Ratio, gain
from analysis.stats import Floats, Statistic
from harness.results.rates import is_correct, reuses_all

_ITEM = ("seed", "item_id")
_TURN = (*_ITEM, "round", "agent_index")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A measure, as rows and a statistic of them."""

    rows: Callable[[Arm], pd.DataFrame]
    """The rows of an arm: ``value``, the cluster ``item``, the columns of ``key``, and those of ``statistic``."""
    statistic: Callable[[pd.DataFrame], Statistic]
    """Maps rows to a function from weights ``[B, N]`` to the measure ``[B]``."""
    unit: str
    key: tuple[str, ...] = ()
    """Columns that identify what several arms may have observed. If there are any, only what all have counts."""
    fidelity: bool = False
    """Whether only turns that a trial's ``fidelity`` selects have it."""

    @property
    def reach(self) -> float | None:
        """The most that one item can add to the difference of two arms; None if there is no such bound."""
        return 100.0 if self.unit == "points" else None

    @property
    def timing(self) -> bool:
        """Whether it depends on the device."""
        return self.unit in ("x", "ms")


def _mean(rows: pd.DataFrame) -> Statistic:
    return _ratio_of_sums(rows.assign(whole=1.0))


def _median(rows: pd.DataFrame) -> Statistic:
    return stats.weighted_medians(_numbers(rows["value"]))


def _ratio_of_sums(rows: pd.DataFrame) -> Statistic:
    parts_N, wholes_N = _numbers(rows["value"]), _numbers(rows["whole"])
    return lambda weights_BN: (weights_BN @ parts_N) / (weights_BN @ wholes_N)


def _mean_of_medians(rows: pd.DataFrame) -> Statistic:
    agents_N, values_N = rows["agent_index"].to_numpy(), _numbers(rows["value"])
    parts = [(agents_N == one, stats.weighted_medians(values_N[agents_N == one])) for one in np.unique(agents_N)]

    def statistic(weights_BN: Floats) -> Floats:
        means: Floats = np.nanmean([medians(weights_BN[:, own]) for own, medians in parts], axis=0)
        return means

    return statistic


def _numbers(column: "pd.Series[float]") -> Floats:
    numbers: Floats = np.asarray(column, dtype=np.float64)
    return numbers


def _answers(arm: Arm) -> pd.DataFrame:
    graded = arm.samples[arm.samples["outcome"].notna()]
    return graded.assign(value=100 * graded["outcome"].map(is_correct).astype(float))


def _reuse(arm: Arm) -> pd.DataFrame:
    return arm.turns.assign(value=100 * arm.turns["mode"].map(reuses_all).astype(float))


def _reused_tokens(arm: Arm) -> pd.DataFrame:
    return arm.turns.assign(value=100 * arm.turns["reused_tokens"], whole=arm.turns["prompt_tokens"])


def _speedups(arm: Arm) -> pd.DataFrame:
    pairs = arm.paired_turns()
    return pairs.assign(value=pairs["ttft_s_dense"] / pairs["ttft_s"])


def _gains(name: str) -> Callable[[Arm], pd.DataFrame]:
    def rows(arm: Arm) -> pd.DataFrame:
        found = gain(arm, "dense", name) or Ratio((), (), ())
        return pd.DataFrame({"value": found.parts, "whole": found.wholes, "item": found.items})

    return rows


def _match_times(arm: Arm) -> pd.DataFrame:
    own = arm.probes[arm.probes["step"] == "match"]
    repeats = own["trial_id"].astype(str) + " " + own["repeat"].astype(str)
    return own.assign(value=1000 * own["seconds"], item=repeats)


def _known(column: str) -> Quantity:
    def rows(arm: Arm) -> pd.DataFrame:
        known = arm.turns[arm.turns[column].notna()]
        return known.assign(value=known[column])

    return Quantity(rows, _mean, "nats" if column.startswith("kl") else "", _TURN, fidelity=True)


QUANTITIES: Mapping[str, Quantity] = MappingProxyType(
    {
        "accuracy": Quantity(_answers, _mean, "points", _ITEM),
        "turn_reuse": Quantity(_reuse, _mean, "points", _ITEM),
        "token_reuse": Quantity(_reused_tokens, _ratio_of_sums, "points", _ITEM),
        "kl_next_token": _known("kl_next_token"),
        "kl_continuation": _known("kl_continuation"),
        "top1_continuation": _known("top1_continuation"),
        "greedy_agreement": _known("greedy_agreement"),
        "key_cosine": _known("key_cosine"),
        "value_cosine": _known("value_cosine"),
        "speedup": Quantity(_speedups, _median, "x"),
        "mean_speedup": Quantity(_speedups, _mean_of_medians, "x"),
        "ttft_sum_speedup": Quantity(_gains("ttft_sum_s"), _ratio_of_sums, "x"),
        "latency_speedup": Quantity(_gains("latency_s"), _ratio_of_sums, "x"),
        "match_time": Quantity(_match_times, _median, "ms"),
    }
)
"""Measures by the name of ``analysis/measures.py``."""
