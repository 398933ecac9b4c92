"""Sums over the agents of ``ttft`` trials: what a whole conversation gains, below the rows of its agents.

Times are means over samples, because means add up and medians do not; gains are ratios of sums
(``analysis.conversations``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import pandas as pd

from analysis.arms import Arm, arms_of
from analysis.conversations import Conversations, gain, value_if_known
from analysis.results import Results, finished_cells

PHASES = ("base_kv", "match", "estimate", "blend", "recompute", "prefill")
"""Phases of the time to the first token, in order. ``estimate`` is unknown in results from before it was timed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedSum:
    """All agents of one cell: times to the first token, summed over the agents of a sample. Unknown values are None."""

    sweep: str
    cell: str
    n_samples: int
    prompt_tokens: int
    """Prompt tokens of all agents."""
    bare_s: float | None
    dense_s: float | None
    prefix_s: float | None
    """None where ``prefix`` was not timed beside the method, like ``over_prefix``."""
    method_s: float | None
    phases_s: Mapping[str, float | None]
    """Seconds of the method by phase."""
    dense_over_bare: float | None
    speedup: float | None
    """The dense sum over the method's; None for the method ``dense``."""
    over_prefix: float | None
    """The ``prefix`` sum over the method's."""
    latency_s: float | None
    """Time of all turns; None if answers were given instead of decoded, like the next two fields."""
    decode_share: float | None
    latency_speedup: float | None


def speed_sums(results: Results) -> list[SpeedSum]:
    """Return the sums of all finished ``ttft`` trials by cell."""
    of_sweep = cache(results.of_sweep)
    return [
        _sum(sweep, cell, arms_of(of_sweep(sweep)).of(trials["trial_id"]), turns[turns["arm"] == "bare"])
        for sweep, cell, trials, turns in finished_cells(results, "ttft", "turns")
    ]


def _sum(sweep: str, cell: str, arm: Arm, bare: pd.DataFrame) -> SpeedSum:
    whole, prompts = Conversations.of(arm.turns), arm.turns.groupby(["trial_id", "sample_index"])["prompt_tokens"]
    others = arm.prefix_turns[arm.prefix_turns["arm"] != arm.turns["arm"].iloc[0]]
    bare_s, dense_s, prefix_s = map(_ttft_sum_s, (bare, arm.dense_turns, others))
    return SpeedSum(
        sweep=sweep,
        cell=cell,
        n_samples=len(whole.by_key),
        prompt_tokens=int(prompts.sum().iloc[0]),
        bare_s=bare_s,
        dense_s=dense_s,
        prefix_s=prefix_s,
        method_s=value_if_known(whole.ratio("ttft_sum_s")),
        phases_s={phase: _phase_sum_s(arm.turns, phase) for phase in PHASES},
        dense_over_bare=None if dense_s is None or not bare_s else dense_s / bare_s,
        speedup=value_if_known(gain(arm, "dense", "ttft_sum_s")),
        over_prefix=value_if_known(gain(arm, "prefix", "ttft_sum_s")),
        latency_s=value_if_known(whole.ratio("latency_s")),
        decode_share=value_if_known(whole.ratio("decode_share")),
        latency_speedup=value_if_known(gain(arm, "dense", "latency_s")),
    )


def _ttft_sum_s(turns: pd.DataFrame) -> float | None:
    return value_if_known(Conversations.of(turns.assign(item=turns["item_id"])).ratio("ttft_sum_s"))


def _phase_sum_s(turns: pd.DataFrame, phase: str) -> float | None:
    seconds = turns[f"phase_{phase}_s"]
    n_samples = turns.groupby(["trial_id", "sample_index"]).ngroups
    return None if seconds.isna().any() else float(seconds.sum()) / n_samples
