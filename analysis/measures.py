"""What is measured of an arm, for tables and figures: rates in percent, times in milliseconds, sizes in gigabytes.

None where the arm has nothing to measure it by. Intervals take the turns of an item together.
"""

from collections.abc import Callable
from typing import Any

import pandas as pd

from analysis import stats
from analysis.arms import Arm
from analysis.stats import Estimate
from harness.results.rates import is_correct, reuses_all

Measure = Callable[[Arm], Estimate | None]


def accuracy(arm: Arm) -> Estimate | None:
    """Correct answers over answers, in percent; what could not be parsed counts as wrong."""
    samples = arm.samples
    if samples.empty:
        return None
    right = samples["outcome"].map(is_correct)
    if samples["item"].is_unique:
        return stats.proportion(int(right.sum()), len(right)).scaled(100)
    # Wilson's interval would take another seed's answer to the same item for independent evidence.
    return stats.mean(right, samples["item"]).scaled(100)


def accuracy_change(arm: Arm) -> tuple[Estimate | None, float | None]:
    """Percentage points of accuracy more than the dense arm on the same items, and McNemar's p-value."""
    pairs = arm.paired_samples()
    if pairs.empty:
        return None, None
    ours, theirs = (pairs[column].map(is_correct) for column in ("outcome", "outcome_dense"))
    change = stats.paired_difference(ours, theirs, pairs["item"]).scaled(100)
    return change, stats.mcnemar(ours, theirs).p_value if pairs["item"].is_unique else None


def turn_reuse(arm: Arm) -> Estimate | None:
    """Turns that reused every segment over turns, in percent: the paper's rate of kvcomm."""
    turns = arm.turns
    return None if turns.empty else stats.mean(turns["mode"].map(reuses_all), turns["item"]).scaled(100)


def token_reuse(arm: Arm) -> Estimate | None:
    """Reused prompt tokens over prompt tokens, in percent: the paper's rate of cacheblend."""
    turns = arm.turns
    if turns.empty:
        return None
    return stats.ratio_of_sums(turns["reused_tokens"], turns["prompt_tokens"], turns["item"]).scaled(100)


def dense_ttft(arm: Arm) -> Estimate | None:
    """Median of the dense turns, in milliseconds."""
    return _median_ms(arm.dense_turns, lambda turns: turns["ttft_s"])


def alignment(arm: Arm) -> Estimate | None:
    """Median time of aligning and blending, in milliseconds, over turns that reuse."""
    return _median_ms(arm.reusing, lambda turns: turns["phase_blend_s"])


def first_forward(arm: Arm) -> Estimate | None:
    """Median time of the forward pass that gives the first token, in milliseconds, over turns that reuse."""
    return _median_ms(arm.reusing, lambda turns: turns["phase_prefill_s"])


def other(arm: Arm) -> Estimate | None:
    """Median of what is left of the TTFT, in milliseconds, over turns that reuse: new base KV and the test, mostly."""
    return _median_ms(arm.reusing, lambda turns: turns["ttft_s"] - turns["phase_blend_s"] - turns["phase_prefill_s"])


def matching(arm: Arm) -> Estimate | None:
    """Median time of the shareability test, in milliseconds, over turns that reuse."""
    return _median_ms(arm.reusing, lambda turns: turns["phase_match_s"])


def speedup(arm: Arm) -> Estimate | None:
    """Median paired ratio of dense TTFT over TTFT."""
    pairs = arm.paired_turns()
    return None if pairs.empty else stats.paired_ratio(pairs["ttft_s_dense"], pairs["ttft_s"], pairs["item"])


def overall_speedup(arm: Arm) -> Estimate | None:
    """Dense TTFT over TTFT, both summed over all turns, those that reused nothing included."""
    pairs = arm.beside_dense(arm.turns)
    return None if pairs.empty else stats.ratio_of_sums(pairs["ttft_s_dense"], pairs["ttft_s"], pairs["item"])


def mean_speedup(arm: Arm) -> Estimate | None:
    """Mean over the agents of their median paired ratios."""
    pairs = arm.paired_turns()
    if pairs.empty:
        return None
    return stats.mean_of_medians(pairs["ttft_s_dense"] / pairs["ttft_s"], pairs["agent_index"], pairs["item"])


def mean_ttft(arm: Arm) -> Estimate | None:
    """Mean over all turns, dense ones included, in milliseconds: what a turn costs on average."""
    turns = arm.turns
    return None if turns.empty else stats.mean(turns["ttft_s"], turns["item"]).scaled(1000)


def kl_next_token(arm: Arm) -> Estimate | None:
    """Mean KL to dense of the next token over the turns that were checked, in nats."""
    checked = arm.turns[arm.turns["kl_next_token"].notna()]
    return None if checked.empty else stats.mean(checked["kl_next_token"], checked["item"])


def pool_gigabytes(arm: Arm) -> Estimate | None:
    """The largest size of all pools, the largest over the trials, in 10^9 bytes; it has no interval."""
    sizes = arm.trials["pool_bytes_max"].dropna()
    return None if sizes.empty else Estimate(float(sizes.max()) / 1e9, None, None, len(sizes), len(sizes))


def probe_milliseconds(step: str) -> Measure:
    """Median time of a step of ``blend`` trials, in milliseconds."""

    def measure(arm: Arm) -> Estimate | None:
        own = arm.probes[arm.probes["step"] == step]
        return None if own.empty else stats.median(own["seconds"]).scaled(1000)

    return measure


def not_measured(_: Arm) -> Estimate | None:
    """For what our records do not hold."""
    return None


def _median_ms(turns: pd.DataFrame, seconds: "Callable[[pd.DataFrame], pd.Series[Any]]") -> Estimate | None:
    return None if turns.empty else stats.median(seconds(turns), turns["item"]).scaled(1000)
