"""The numbers of a trial that need its turns, with 95 % intervals, and those that need its dense counterpart's, too.

Each of them is a measure of ``analysis.measures``, in MLflow's units: seconds, and shares from 0 to 1. An arm of
``kvcomm show`` pools the seeds of a cell; a run is one trial, so its arm is that trial alone.
"""

import json
import math
from collections import defaultdict

from analysis import measures
from analysis.arms import Arm, Arms
from analysis.devices import kind_of_device
from analysis.measures import Measure
from analysis.pairing import pair_of
from analysis.results import Excerpt
from analysis.stats import Estimate
from analysis.turn_columns import TURN
from harness.results.arrow_schemas import Table
from harness.results.read_back import AttemptReader
from harness.results.trial_result import TrialRow

BASELINES = ("dense", "prefix")
"""Methods that others are compared with."""


def _accuracy_change(arm: Arm) -> Estimate | None:
    """Return the change against dense; None for dense, whose change against itself says nothing."""
    return None if (arm.turns["arm"] == "dense").all() else measures.accuracy_change(arm)[0]


ESTIMATES: dict[str, tuple[Measure, float]] = {
    "speedup": (measures.speedup, 1.0),
    "speedup_over_prefix": (measures.speedup_over_prefix, 1.0),
    "ttft_sum_speedup": (measures.ttft_sum_speedup, 1.0),
    "latency_speedup": (measures.latency_speedup, 1.0),
    "ttft_dense_s": (measures.dense_ttft, 1e-3),
    "ttft_reuse_s": (measures.reuse_ttft, 1e-3),
    "accuracy": (measures.accuracy, 1e-2),
    "accuracy_change": (_accuracy_change, 1e-2),
    "token_reuse_rate": (measures.token_reuse, 1e-2),
    "turn_reuse_rate": (measures.turn_reuse, 1e-2),
    "beyond_prefix_rate": (measures.beyond_prefix_reuse, 1e-2),
    "kl": (measures.kl_next_token, 1.0),
    "kl_continuation": (measures.kl_continuation, 1.0),
    "top1_continuation": (measures.top1_continuation, 1.0),
    "greedy_agreement": (measures.greedy_agreement, 1.0),
}
"""Measure behind each metric, and the factor to MLflow's unit. The ends of its interval are ``<name>_low`` and
``<name>_high``."""


_COLUMNS: dict[Table, tuple[str, ...]] = {
    "turns": (
        *("trial_id", *TURN, "arm", "mode", "no_reuse_reason", "batch_size", "stop_reason"),
        *("prompt_tokens", "reused_tokens", "estimated_tokens", "exact_prefix_tokens"),
        *("ttft_s", "decode_s", "phase_store_s", "phase_publish_s", "ttft_share_s", "decode_share_s"),
        *("kl_next_token", "kl_continuation", "top1_continuation", "greedy_agreement"),
    ),
    "samples": ("trial_id", "sample_index", "item_id", "outcome", "energy_j"),
}
"""The columns that these measures need."""


class Comparisons:
    """The finished trials of one sweep, each with those that differ from it in the method alone."""

    def __init__(self, reader: AttemptReader) -> None:
        """``reader`` reads the results of the sweep."""
        self._reader = reader
        self._pairs: dict[str, str] = {}
        self._groups: defaultdict[str, dict[str, TrialRow]] = defaultdict(dict)

    def add(self, row: TrialRow) -> None:
        """Take in the attempt that counts of a trial. Attempts without results are ignored."""
        if row.status != "ok":
            return
        device = kind_of_device(row.device, row.env_json)
        pair = pair_of(row.trial_id, json.loads(row.spec_json), device)
        self._pairs[row.trial_id] = pair
        self._groups[pair][row.trial_id] = row

    def depend_on(self, trial_id: str) -> list[str]:
        """Return the other trials that are compared with this one: none unless it is a baseline."""
        group = self._group(trial_id)
        if trial_id not in group or group[trial_id].method not in BASELINES:
            return []
        return [other for other, row in group.items() if other != trial_id and row.method != "dense"]

    def metrics(self, trial_id: str) -> dict[str, float]:
        """Return the estimates of a trial that are known so far, with four digits. A trial that failed has none."""
        group = self._group(trial_id)
        if trial_id not in group:
            return {}
        concerned = [row for other, row in group.items() if other == trial_id or row.method in BASELINES]
        results = Excerpt(self._reader, [f"{row.trial_id}-{row.attempt}" for row in concerned], _COLUMNS)
        arm = Arms(results).of([trial_id])
        if arm.turns.empty:
            return {}
        metrics: dict[str, float] = {}
        for name, (measure, factor) in ESTIMATES.items():
            if (estimate := measure(arm)) is not None:
                metrics |= _with_interval(name, estimate.scaled(factor))
        return metrics

    def _group(self, trial_id: str) -> dict[str, TrialRow]:
        return self._groups[self._pairs[trial_id]] if trial_id in self._pairs else {}


def _with_interval(name: str, estimate: Estimate) -> dict[str, float]:
    ends = {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    # MLflow stores infinity as a huge number, and has no value for unknown. Its pages print all digits there are.
    return {key: float(f"{value:.4g}") for key, value in ends.items() if value is not None and math.isfinite(value)}
