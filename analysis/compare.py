"""Two results folders, A and B, cell by cell: for a pull request, or the same sweep on another machine.

Cells are matched by their specs, whatever sweep ran them. What a side measured is over all of its trials of a cell; a
change between the sides is over what both have: the same items, or the same turns, of the same seeds.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import measures, stats
from analysis.arms import Arm, Arms
from analysis.expression import NAMES, Condition
from analysis.load import Records, load
from analysis.matching import match_cells
from analysis.stats import Estimate, Floats
from harness.cells import FlatSpec, flatten

_TURN = ["spec", "sample_index", "item_id", "round", "agent_index"]
"""Names the same turn on both sides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellChange:
    """One cell on both sides; times in milliseconds, rates in percent. None: there is nothing to measure it by."""

    cell: str
    n_ok_a: int
    """Trials (seeds) that ended well."""
    n_ok_b: int
    accuracy_a: float | None
    accuracy_b: float | None
    accuracy_change: Estimate | None
    """Percentage points, B minus A, on the same items."""
    reuse_a: float | None
    """Reused prompt tokens over prompt tokens."""
    reuse_b: float | None
    reuse_change: Estimate | None
    """Percentage points, B minus A."""
    ttft_p50_a: float | None
    """Median over all turns, those without reuse included."""
    ttft_p50_b: float | None
    ttft_ratio: Estimate | None
    """Median of B by A of the same turn."""
    kl_a: float | None
    """Mean KL to dense of the next token over the turns that were checked, in nats."""
    kl_b: float | None
    kl_change: Estimate | None
    kl_ratio: Estimate | None
    """Mean by mean; None if A's is 0."""
    speedup_a: float | None
    """Median over the turns that reused anything of dense TTFT by TTFT."""
    speedup_b: float | None
    speedup_ratio: Estimate | None
    """Median of B by A of the same turn, where it reused anything on both sides."""
    fires: bool | None = None
    """Whether the check holds; None if that is unknown, or there is no check."""

    def numbers(self) -> dict[str, float | None]:
        """By the names that a check may use."""
        found: dict[str, float | None] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in NAMES:
                known = isinstance(value, Estimate)
                found[field.name] = value.value if known else value
                if f"{field.name}_low" in NAMES:
                    found[f"{field.name}_low"] = value.low if known else None
                    found[f"{field.name}_high"] = value.high if known else None
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderChange:
    """What two results folders have in common, and what they do not."""

    cells: list[CellChange]
    """Those that both sides tried."""
    only_a: list[str]
    only_b: list[str]
    unknown_fields: list[str]
    """Fields of specs that one side does not know, as its version is older, and that were not looked at."""
    checked: bool
    """Whether there was a check."""

    @property
    def fires(self) -> bool:
        """Whether the check holds in any cell."""
        return any(cell.fires for cell in self.cells)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def compare_results(a: Path, b: Path, check: Condition | None) -> FolderChange:
    """The cells of two results folders, or folders of sweeps. Raises ``harness.store.StoreError``."""
    ours, theirs = (load(path).each_trial_once() for path in (a, b))
    matched, unknown_fields = match_cells(_specs(ours), _specs(theirs))
    arms_a, arms_b = Arms(ours), Arms(theirs)
    changes = []
    for one in matched:
        if one.a and one.b:
            change = _change(str(one.cell), _side(arms_a, one.a), _side(arms_b, one.b))
            changes.append(change if check is None else replace(change, fires=check(change.numbers())))
    return FolderChange(
        cells=changes,
        only_a=[str(one.cell) for one in matched if not one.b],
        only_b=[str(one.cell) for one in matched if not one.a],
        unknown_fields=unknown_fields,
        checked=check is not None,
    )


def _specs(records: Records) -> dict[str, FlatSpec]:
    trials = records.trials
    return {
        str(trial_id): flatten(json.loads(text))
        for trial_id, text in zip(trials["trial_id"], trials["spec_json"], strict=True)
    }


def _side(arms: Arms, trials: Mapping[str, list[str]]) -> Arm:
    """The arm of the latest trial of each of these specs; its turns and samples have the column ``spec``."""
    spec_of = {trial_ids[-1]: spec for spec, trial_ids in trials.items()}
    arm = arms.of(spec_of)
    turns, samples = (frame.assign(spec=frame["trial_id"].map(spec_of)) for frame in (arm.turns, arm.samples))
    return replace(arm, turns=turns, samples=samples)


def _change(cell: str, a: Arm, b: Arm) -> CellChange:
    turns = b.turns.merge(a.turns, on=_TURN, suffixes=("", "_a"))
    samples = b.samples.merge(a.samples, on=["spec", "item_id"], suffixes=("", "_a"))
    checked = turns[turns["kl_next_token"].notna() & turns["kl_next_token_a"].notna()]
    faster_a, faster_b = (arm.paired_turns().assign(gain=lambda t: t["ttft_s_dense"] / t["ttft_s"]) for arm in (a, b))
    gains = faster_b.merge(faster_a, on=_TURN, suffixes=("", "_a"))
    return CellChange(
        cell=cell,
        n_ok_a=a.n_ok,
        n_ok_b=b.n_ok,
        accuracy_a=_value(measures.accuracy(a)),
        accuracy_b=_value(measures.accuracy(b)),
        accuracy_change=_accuracy_change(samples),
        reuse_a=_value(measures.token_reuse(a)),
        reuse_b=_value(measures.token_reuse(b)),
        reuse_change=_reuse_change(turns),
        ttft_p50_a=_p50_ms(a.turns),
        ttft_p50_b=_p50_ms(b.turns),
        ttft_ratio=None if turns.empty else stats.paired_ratio(turns["ttft_s"], turns["ttft_s_a"], turns["item"]),
        kl_a=_value(measures.kl_next_token(a)),
        kl_b=_value(measures.kl_next_token(b)),
        kl_change=_difference(checked, "kl_next_token"),
        kl_ratio=_ratio_of_means(checked, "kl_next_token"),
        speedup_a=_value(measures.speedup(a)),
        speedup_b=_value(measures.speedup(b)),
        speedup_ratio=None if gains.empty else stats.paired_ratio(gains["gain"], gains["gain_a"], gains["item"]),
    )


def _value(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.value


def _p50_ms(turns: pd.DataFrame) -> float | None:
    return None if turns.empty else 1000 * stats.tails(turns["ttft_s"]).p50


def _accuracy_change(samples: pd.DataFrame) -> Estimate | None:
    if samples.empty:
        return None
    theirs, ours = (samples[column] == "correct" for column in ("outcome", "outcome_a"))
    return stats.paired_difference(theirs, ours, samples["item"]).scaled(100)


def _reuse_change(turns: pd.DataFrame) -> Estimate | None:
    """Difference of two rates, each over the turns that both sides have."""
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


def _difference(turns: pd.DataFrame, column: str) -> Estimate | None:
    return None if turns.empty else stats.paired_difference(turns[column], turns[f"{column}_a"], turns["item"])


def _ratio_of_means(turns: pd.DataFrame, column: str) -> Estimate | None:
    """None where A's mean is 0; without an interval where A's is 0 in some resamples."""
    if turns.empty or not turns[f"{column}_a"].sum():
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = stats.ratio_of_sums(turns[column], turns[f"{column}_a"], turns["item"])
    finite = all(end is None or np.isfinite(end) for end in (ratio.low, ratio.high))
    return ratio if finite else replace(ratio, low=None, high=None)
