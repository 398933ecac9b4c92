"""Measures of an arm, for tables and figures: rates in percent, times in milliseconds, sizes in gigabytes.

A measure is None if the arm has no data for it. Intervals keep the turns of an item together.
"""

from collections.abc import Callable
from typing import Any

import pandas as pd

from analysis import stats
from analysis.arms import Arm, Baseline
from analysis.conversations import Conversations, Ratio, beyond_prefix, gain
from analysis.paired_answers import PairedAnswers
from analysis.stats import Estimate
from harness.results.rates import is_correct, reuses_all

Measure = Callable[[Arm], Estimate | None]


def accuracy(arm: Arm) -> Estimate | None:
    """Return correct answers over answers, in percent; unparsable answers count as wrong."""
    samples = arm.samples[arm.samples["outcome"].notna()]
    if samples.empty:
        return None
    right = samples["outcome"].map(is_correct)
    if samples["item"].is_unique:
        return stats.proportion(int(right.sum()), len(right)).scaled(100)
    # Wilson's interval would treat answers of different seeds to one item as independent evidence.
    return stats.mean(right, samples["item"]).scaled(100)


def accuracy_change(arm: Arm) -> tuple[Estimate | None, float | None]:
    """Return accuracy minus the dense arm's on the same items, in percentage points, and McNemar's p-value."""
    pairs = graded_pairs(arm.paired_samples(), "_dense")
    change = accuracy_difference(pairs, "_dense")
    independent = change is not None and pairs["item"].is_unique
    return change, stats.mcnemar(*_right(pairs, "_dense")).p_value if independent else None


def accuracy_difference(pairs: pd.DataFrame, suffix: str) -> Estimate | None:
    """Return the change of accuracy, in percentage points, from the samples whose columns end in ``suffix``.

    The interval is Tango's, which knows that a few items, or none, on which two arms disagree show little; answers of
    several seeds to one item are resampled by item.
    """
    pairs = graded_pairs(pairs, suffix)
    if pairs.empty:
        return None
    right, right_beside = _right(pairs, suffix)
    if not pairs["item"].is_unique:
        return stats.paired_difference(right, right_beside, pairs["item"]).scaled(100)
    answers = PairedAnswers.of(right.tolist(), right_beside.tolist())
    low, high = answers.interval(stats.CONFIDENCE)
    return Estimate(answers.difference, low, high, answers.n, answers.n).scaled(100)


def graded_pairs(pairs: pd.DataFrame, suffix: str) -> pd.DataFrame:
    """Return the pairs of which both answers are graded."""
    return pairs[pairs["outcome"].notna() & pairs[f"outcome{suffix}"].notna()]


def _right(pairs: pd.DataFrame, suffix: str) -> "tuple[pd.Series[bool], pd.Series[bool]]":
    return pairs["outcome"].map(is_correct), pairs[f"outcome{suffix}"].map(is_correct)


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


def reuse_ttft(arm: Arm) -> Estimate | None:
    """Return the median TTFT of the turns that reused anything, in milliseconds."""
    return _median_ms(arm.reusing, lambda turns: turns["ttft_s"])


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


def speedup(arm: Arm, baseline: Baseline = "dense") -> Estimate | None:
    """Return the median paired ratio of the baseline's TTFT to TTFT, over the turns that reused anything."""
    pairs = arm.paired_turns(baseline)
    if pairs.empty:
        return None
    return stats.paired_ratio(pairs[f"ttft_s_{baseline}"], pairs["ttft_s"], pairs["item"])


def speedup_over_prefix(arm: Arm) -> Estimate | None:
    """Return the median paired ratio of the TTFT of ``prefix`` to TTFT, over the turns that reused anything."""
    return speedup(arm, "prefix")


def ttft_sum(arm: Arm) -> Estimate | None:
    """Return the TTFT summed over the turns of an item, mean over items, in milliseconds."""
    return _estimate(Conversations.of_arm(arm).ratio("ttft_sum_s"), 1000)


def dense_ttft_sum(arm: Arm) -> Estimate | None:
    """Return the same sum over the dense turns."""
    return _estimate(Conversations.of(arm.dense_turns).ratio("ttft_sum_s"), 1000)


def ttft_sum_speedup(arm: Arm, baseline: Baseline = "dense") -> Estimate | None:
    """Return the baseline's TTFT over the arm's, summed over all turns of all items, those without reuse included."""
    return _estimate(gain(arm, baseline, "ttft_sum_s"))


def ttft_sum_over_prefix(arm: Arm) -> Estimate | None:
    """Return the TTFT of ``prefix`` over the arm's, summed in the same way."""
    return ttft_sum_speedup(arm, "prefix")


def phase_sum(phase: str) -> Measure:
    """Return a measure: the time of a phase, summed over the turns of an item, mean over items, in milliseconds."""
    return _sum_of(lambda turns: turns[f"phase_{phase}_s"])


def rest_sum(arm: Arm) -> Estimate | None:
    """Return the rest of the TTFT, besides blending and the forward pass, summed and averaged in the same way."""
    return _sum_of(lambda turns: turns["ttft_s"] - turns["phase_blend_s"] - turns["phase_prefill_s"])(arm)


def latency(arm: Arm) -> Estimate | None:
    """Return the seconds that an item takes, mean over items: TTFT, decoding, storing and publishing of its turns."""
    return _estimate(Conversations.of_arm(arm).ratio("latency_s"))


def latency_speedup(arm: Arm, baseline: Baseline = "dense") -> Estimate | None:
    """Return the baseline's latency over the arm's, summed over all items: what a conversation gains."""
    return _estimate(gain(arm, baseline, "latency_s"))


def decode_share(arm: Arm) -> Estimate | None:
    """Return decoding's share of the latency of all items, in percent."""
    return _estimate(Conversations.of_arm(arm).ratio("decode_share"), 100)


def items_per_minute(arm: Arm) -> Estimate | None:
    """Return items over the minutes that they kept the model busy; the time of a batch counts once."""
    return _estimate(Conversations.of_arm(arm).ratio("items_per_minute"))


def energy(arm: Arm) -> Estimate | None:
    """Return the energy that an item takes, mean over the items that know it, in joules."""
    return _estimate(Conversations.of_arm(arm).ratio("energy_j"))


def beyond_prefix_reuse(arm: Arm) -> Estimate | None:
    """Return reused tokens beyond those of an exact prefix cache over prompt tokens, in percent."""
    return _estimate(beyond_prefix(arm), 100)


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


def key_cosine(arm: Arm) -> Estimate | None:
    """Return the mean over the checked turns of the cosine similarity of the prompt's keys with dense's."""
    return _mean_of_known(arm, "key_cosine")


def value_cosine(arm: Arm) -> Estimate | None:
    """Return the mean over the checked turns of the cosine similarity of the prompt's values with dense's."""
    return _mean_of_known(arm, "value_cosine")


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


match_time = probe_milliseconds("match")
"""The median time of the test of a placeholder in ``blend`` trials, in milliseconds."""


def not_measured(_: Arm) -> Estimate | None:
    """Return None, for numbers that our results do not hold."""
    return None


def _sum_of(seconds: "Callable[[pd.DataFrame], pd.Series[Any]]") -> Measure:
    def measure(arm: Arm) -> Estimate | None:
        if arm.turns.empty:
            return None
        sums = arm.turns.assign(_s=seconds(arm.turns)).groupby(["trial_id", "sample_index", "item"])["_s"].sum()
        return stats.mean(sums, sums.index.get_level_values("item")).scaled(1000)

    return measure


def _estimate(ratio: Ratio | None, factor: float = 1.0) -> Estimate | None:
    return None if ratio is None else ratio.estimate().scaled(factor)


def _mean_of_known(arm: Arm, column: str) -> Estimate | None:
    values = arm.turns[column]
    known = values.notna()  # selecting rows of all columns would take most of the time
    return stats.mean(values[known], arm.turns.loc[known, "item"]) if known.any() else None


def _median_ms(turns: pd.DataFrame, seconds: "Callable[[pd.DataFrame], pd.Series[Any]]") -> Estimate | None:
    return None if turns.empty else stats.median(seconds(turns), turns["item"]).scaled(1000)
