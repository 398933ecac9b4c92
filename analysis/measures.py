"""Measures of an arm, for tables and figures: rates in percent, times in milliseconds, sizes in gigabytes.

A measure is None if the arm has no data for it. Intervals keep the turns of an item together.
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
    """Return correct answers over answers, in percent; unparsable answers count as wrong."""
    samples = arm.samples
    if samples.empty:
        return None
    right = samples["outcome"].map(is_correct)
    if samples["item"].is_unique:
        return stats.proportion(int(right.sum()), len(right)).scaled(100)
    # Wilson's interval would treat answers of different seeds to one item as independent evidence.
    return stats.mean(right, samples["item"]).scaled(100)


def accuracy_change(arm: Arm) -> tuple[Estimate | None, float | None]:
    """Return accuracy minus the dense arm's on the same items, in percentage points, and McNemar's p-value."""
    pairs = arm.paired_samples()
    if pairs.empty:
        return None, None
    ours, theirs = (pairs[column].map(is_correct) for column in ("outcome", "outcome_dense"))
    change = stats.paired_difference(ours, theirs, pairs["item"]).scaled(100)
    return change, stats.mcnemar(ours, theirs).p_value if pairs["item"].is_unique else None


def turn_reuse(arm: Arm) -> Estimate | None:
    """Return the percentage of turns that reused every segment: the paper's reuse rate for kvcomm."""
    turns = arm.turns
    return None if turns.empty else stats.mean(turns["mode"].map(reuses_all), turns["item"]).scaled(100)


def token_reuse(arm: Arm) -> Estimate | None:
    """Return reused prompt tokens over prompt tokens, in percent: the paper's reuse rate for cacheblend."""
    turns = arm.turns
    if turns.empty:
        return None
    return stats.ratio_of_sums(turns["reused_tokens"], turns["prompt_tokens"], turns["item"]).scaled(100)


def dense_ttft(arm: Arm) -> Estimate | None:
    """Return the median TTFT of the dense turns, in milliseconds."""
    return _median_ms(arm.dense_turns, lambda turns: turns["ttft_s"])


def alignment(arm: Arm) -> Estimate | None:
    """Return the median alignment and blending time of reusing turns, in milliseconds."""
    return _median_ms(arm.reusing, lambda turns: turns["phase_blend_s"])


def first_forward(arm: Arm) -> Estimate | None:
    """Return the median time of the forward pass to the first token in reusing turns, in milliseconds."""
    return _median_ms(arm.reusing, lambda turns: turns["phase_prefill_s"])


def other(arm: Arm) -> Estimate | None:
    """Return the median rest of the TTFT of reusing turns, in milliseconds: mostly new base KV and the test."""
    return _median_ms(arm.reusing, lambda turns: turns["ttft_s"] - turns["phase_blend_s"] - turns["phase_prefill_s"])


def matching(arm: Arm) -> Estimate | None:
    """Return the median time of the shareability test in reusing turns, in milliseconds."""
    return _median_ms(arm.reusing, lambda turns: turns["phase_match_s"])


def speedup(arm: Arm) -> Estimate | None:
    """Return the median paired ratio of dense TTFT to TTFT."""
    pairs = arm.paired_turns()
    return None if pairs.empty else stats.paired_ratio(pairs["ttft_s_dense"], pairs["ttft_s"], pairs["item"])


def overall_speedup(arm: Arm) -> Estimate | None:
    """Return total dense TTFT over total TTFT, summed over all turns, including those without reuse."""
    pairs = arm.beside_dense(arm.turns)
    return None if pairs.empty else stats.ratio_of_sums(pairs["ttft_s_dense"], pairs["ttft_s"], pairs["item"])


def mean_speedup(arm: Arm) -> Estimate | None:
    """Return the mean over agents of their median paired ratios."""
    pairs = arm.paired_turns()
    if pairs.empty:
        return None
    return stats.mean_of_medians(pairs["ttft_s_dense"] / pairs["ttft_s"], pairs["agent_index"], pairs["item"])


def mean_ttft(arm: Arm) -> Estimate | None:
    """Return the mean TTFT over all turns, including dense ones, in milliseconds: the average cost of a turn."""
    turns = arm.turns
    return None if turns.empty else stats.mean(turns["ttft_s"], turns["item"]).scaled(1000)


def kl_next_token(arm: Arm) -> Estimate | None:
    """Return the mean next-token KL to dense over the checked turns, in nats."""
    return _mean_of_known(arm, "kl_next_token")


def kl_continuation(arm: Arm) -> Estimate | None:
    """Return the mean over the checked turns of KL to dense over the first tokens of dense's answer, in nats."""
    return _mean_of_known(arm, "kl_continuation")


def top1_continuation(arm: Arm) -> Estimate | None:
    """Return the mean over the checked turns of the share of these tokens that both rank first, from 0 to 1."""
    return _mean_of_known(arm, "top1_continuation")


def greedy_agreement(arm: Arm) -> Estimate | None:
    """Return the mean agreement of the checked turns' greedy answers with dense's, from 0 to 1."""
    return _mean_of_known(arm, "greedy_agreement")


def pool_gigabytes(arm: Arm) -> Estimate | None:
    """Return the peak size of all pools together, the maximum over trials, in 10^9 bytes; it has no interval."""
    sizes = arm.trials["pool_bytes_max"].dropna()
    return None if sizes.empty else Estimate(float(sizes.max()) / 1e9, None, None, len(sizes), len(sizes))


def probe_milliseconds(step: str) -> Measure:
    """Return a measure: the median time of one step of ``blend`` trials, in milliseconds."""

    def measure(arm: Arm) -> Estimate | None:
        own = arm.probes[arm.probes["step"] == step]
        return None if own.empty else stats.median(own["seconds"]).scaled(1000)

    return measure


def not_measured(_: Arm) -> Estimate | None:
    """Return None, for numbers that our results do not hold."""
    return None


def _mean_of_known(arm: Arm, column: str) -> Estimate | None:
    known = arm.turns[arm.turns[column].notna()]
    return None if known.empty else stats.mean(known[column], known["item"])


def _median_ms(turns: pd.DataFrame, seconds: "Callable[[pd.DataFrame], pd.Series[Any]]") -> Estimate | None:
    return None if turns.empty else stats.median(seconds(turns), turns["item"]).scaled(1000)
