"""The cells of all sweeps on one page: each set of trials once, named by what differs within its sweep."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.devices import QUIET
from analysis.report.compared_arms import Comparison
from analysis.results import Results, flat_specs
from harness.cells import FlatSpec, Scalar


@dataclass(frozen=True, slots=True)
class Row:
    """A cell of one sweep with its numbers."""

    sweep: str
    arm: Comparison
    facts: FlatSpec
    """The spec fields of the cell, without the seed: what ``common_to`` compares."""

    @property
    def name(self) -> str:
        """Name on the page: the sweep, and what differs within it."""
        return f"{self.sweep}: {self.arm.cell}"

    @property
    def is_rough(self) -> bool:
        """Whether other processes are known to have kept more of the machine busy than a system does by itself."""
        return self.arm.others_cores is not None and self.arm.others_cores > QUIET

    @property
    def reuses(self) -> bool:
        """Whether the arm may reuse, so that it is compared with dense."""
        return self.arm.method != "dense"


def rows_of(sweep: str, results: Results, arms: Iterable[Comparison]) -> list[Row]:
    """Return the rows of one sweep."""
    specs = flat_specs(results.trials)
    return [Row(sweep, arm, _facts(specs[min(arm.trial_ids)])) for arm in arms]


def each_once(rows: Iterable[Row]) -> list[Row]:
    """Leave out cells whose trials another cell has, too: the one with more trials stays, then the later one."""
    ordered = sorted(rows, key=lambda row: (len(row.arm.trial_ids), row.arm.ended), reverse=True)
    taken: set[str] = set()
    kept: set[int] = set()
    for row in ordered:
        if not row.arm.trial_ids & taken:
            taken |= row.arm.trial_ids
            kept.add(id(row))
    return [row for row in ordered if id(row) in kept]


def without_rough_times(rows: Iterable[Row]) -> list[Row]:
    """Leave out the times of cells that ran beside other work, if there are times without any."""
    rows = list(rows)
    if not any(_is_timed(row.arm) for row in rows if not row.is_rough):
        return rows
    return [_untimed(row) if row.is_rough else row for row in rows]


def _is_timed(arm: Comparison) -> bool:
    return arm.latency_gain is not None or arm.ttft_sum_gain is not None


def _untimed(row: Row) -> Row:
    arm = replace(row.arm, latency_gain=None, ttft_sum_gain=None, ttft_sum_gain_over_prefix=None, decode_share=None)
    return replace(row, arm=arm)


def constant(specs: Sequence[FlatSpec]) -> FlatSpec:
    """Return the fields that all specs have with one value, which the page says once; null ones say nothing."""
    first, *others = specs or [{}]
    same = {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
    return {key: value for key, value in same.items() if value is not None}


def common_to(some: Sequence[Row], rest: Sequence[Row]) -> str | None:
    """Return the field of method, workload or team that tells ``some`` from ``rest`` best: all of ``some`` have its
    value, and few others do. None if no field does.
    """
    if not some or not rest:
        return None
    shared = constant([row.facts for row in some])
    others = {key: sum(row.facts.get(key) == shared[key] for row in rest) for key in shared if _tells(key)}
    key = min(others, key=lambda key: others[key], default=None)
    if key is None or 2 * others[key] > len(some) or 3 * others[key] > len(rest):
        return None
    field = f"{_leaf(key)}={shared[key]}"
    return field if others[key] == 0 else f"all have {field}, as {len(some) + others[key]} cells do"


def _tells(key: str) -> bool:
    return "." in key or key in ("agents", "rounds", "topology", "model")


def said(fields: Mapping[str, Scalar]) -> str:
    """Return fields as a line: ``agents=4 gamma=0.3``."""
    return " ".join(f"{_leaf(key)}={value}" for key, value in fields.items())


def specs_of(results: Results) -> list[FlatSpec]:
    """Return the spec of each trial without its seed."""
    return [_facts(spec) for spec in flat_specs(results.trials).values()]


def _facts(spec: FlatSpec) -> FlatSpec:
    return {key: value for key, value in spec.items() if key != "seed"}


def _leaf(key: str) -> str:
    head, _, leaf = key.rpartition(".")
    return head if leaf == "name" else leaf
