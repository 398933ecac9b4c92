"""Compare two results folders, A and B, cell by cell: for a pull request, or across machines.

Cells are matched by their specs, whatever sweep ran them. Numbers of one side cover all its trials of a cell. Changes
cover what both sides have: the same items, or the same turns, of the same seeds.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import measures, stats
from analysis.arms import Arm, Arms
from analysis.compare import changes
from analysis.compare.cell_matching import match_cells
from analysis.compare.expression import NAMES, Condition
from analysis.conversations import value_if_known
from analysis.devices import devices_of
from analysis.results import Results, flat_specs
from analysis.stats import Estimate
from analysis.turn_columns import TURN


@dataclass(frozen=True, slots=True, kw_only=True)
class CellChange:
    """One cell on both sides; times in milliseconds, rates in percent. A field is None if there are no data for it."""

    cell: str
    n_ok_a: int
    """Number of successful trials (seeds)."""
    n_ok_b: int
    accuracy_a: float | None
    accuracy_b: float | None
    accuracy_change: Estimate | None
    """B minus A on the same items, in percentage points."""
    reuse_a: float | None
    """Reused prompt tokens over prompt tokens."""
    reuse_b: float | None
    reuse_change: Estimate | None
    """B minus A on the same turns, in percentage points."""
    ttft_p50_a: float | None
    """Median over all turns, including those without reuse."""
    ttft_p50_b: float | None
    ttft_ratio: Estimate | None
    """Median of B / A for the same turn."""
    kl_a: float | None
    """Mean next-token KL to dense over the checked turns, in nats."""
    kl_b: float | None
    kl_change: Estimate | None
    kl_ratio: Estimate | None
    """Mean of B / mean of A; None if A's mean is 0."""
    speedup_a: float | None
    """Median of dense TTFT / TTFT over the turns that reused anything."""
    speedup_b: float | None
    speedup_ratio: Estimate | None
    """Median of B / A for the same turn, over turns that reused anything on both sides."""
    fires: bool | None = None
    """Whether the check holds; None if that is unknown or there is no check."""

    def numbers(self) -> dict[str, float | None]:
        """Return the numbers by the names that a check may use."""
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
    """The comparison of two results folders."""

    cells: list[CellChange]
    """Cells that both sides tried."""
    only_a: list[str]
    only_b: list[str]
    unknown_fields: list[str]
    """Ignored spec fields, which one side lacks because its version is older."""
    checked: bool
    """Whether there was a check."""
    devices_a: list[str]
    """Kinds of device on which the successful trials of A ran."""
    devices_b: list[str]

    @property
    def fires(self) -> bool:
        """Whether the check holds in any cell."""
        return any(cell.fires for cell in self.cells)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def compare_results(a: Path, b: Path, check: Condition | None) -> FolderChange:
    """Compare two results folders or sweep folders. Raises ``harness.results.parquet_files.StoreError``."""
    ours, theirs = (Results(path).each_trial_once() for path in (a, b))
    matched, unknown_fields = match_cells(flat_specs(ours.trials), flat_specs(theirs.trials))
    arms_a, arms_b = Arms(ours), Arms(theirs)
    cells = []
    for one in matched:
        if one.a and one.b:
            cell = _change(str(one.cell), _side(arms_a, one.a), _side(arms_b, one.b))
            cells.append(cell if check is None else replace(cell, fires=check(cell.numbers())))
    return FolderChange(
        cells=cells,
        only_a=[str(one.cell) for one in matched if not one.b],
        only_b=[str(one.cell) for one in matched if not one.a],
        unknown_fields=unknown_fields,
        checked=check is not None,
        devices_a=_devices(ours),
        devices_b=_devices(theirs),
    )


def _devices(results: Results) -> list[str]:
    return sorted(devices_of(results.ok_trials).unique())


def _side(arms: Arms, trials: Mapping[str, list[str]]) -> Arm:
    """Return the arm of the latest trial of each spec; its turns and samples have a ``spec`` column."""
    spec_of = {trial_ids[-1]: spec for spec, trial_ids in trials.items()}
    arm = arms.of(spec_of)
    turns, samples = (frame.assign(spec=frame["trial_id"].map(spec_of)) for frame in (arm.turns, arm.samples))
    return arm.with_frames(turns=turns, samples=samples)


def _change(cell: str, a: Arm, b: Arm) -> CellChange:
    turns, samples = changes.same_turns(a, b, "spec"), changes.same_items(a, b, "spec")
    checked = changes.known_in_both(turns, ["kl_next_token"])
    faster_a, faster_b = (arm.paired_turns().assign(gain=lambda t: t["ttft_s_dense"] / t["ttft_s"]) for arm in (a, b))
    gains = faster_b.merge(faster_a, on=["spec", *TURN], suffixes=("", "_a"))
    return CellChange(
        cell=cell,
        n_ok_a=a.n_ok,
        n_ok_b=b.n_ok,
        accuracy_a=value_if_known(measures.accuracy(a)),
        accuracy_b=value_if_known(measures.accuracy(b)),
        accuracy_change=measures.accuracy_difference(samples, "_a"),
        reuse_a=value_if_known(measures.token_reuse(a)),
        reuse_b=value_if_known(measures.token_reuse(b)),
        reuse_change=changes.token_reuse_change(turns),
        ttft_p50_a=_p50_ms(a.turns),
        ttft_p50_b=_p50_ms(b.turns),
        ttft_ratio=None if turns.empty else stats.paired_ratio(turns["ttft_s"], turns["ttft_s_a"], turns["item"]),
        kl_a=value_if_known(measures.kl_next_token(a)),
        kl_b=value_if_known(measures.kl_next_token(b)),
        kl_change=changes.difference(checked, "kl_next_token"),
        kl_ratio=changes.ratio_of_means(checked, "kl_next_token"),
        speedup_a=value_if_known(measures.speedup(a)),
        speedup_b=value_if_known(measures.speedup(b)),
        speedup_ratio=None if gains.empty else stats.paired_ratio(gains["gain"], gains["gain_a"], gains["item"]),
    )


def _p50_ms(turns: pd.DataFrame) -> float | None:
    return None if turns.empty else 1000 * stats.tails(turns["ttft_s"]).p50
