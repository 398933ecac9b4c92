"""Trials of a sweep without results: those that failed, and those that were planned but not run."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from analysis.compare.cell_matching import match_cells
from analysis.results import flat_specs
from harness.cells import FlatSpec


@dataclass(frozen=True, slots=True)
class Planned:
    """The trials that a sweep file names."""

    specs: Mapping[str, FlatSpec]
    """Specs by trial id."""
    problem: str | None = None
    """Why the specs are unknown (the sweep file is missing or has another version); None if they are known."""


@dataclass(frozen=True, slots=True)
class FailedTrial:
    """A trial without a successful attempt."""

    trial_id: str
    cell: str
    status: str
    attempt: int
    reason: str
    """Last line of the error."""
    error: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Counts of the finished, failed and missing trials of a sweep."""

    n_ok: int
    n_planned: int | None
    """Number of planned trials; None if the plan is unknown."""
    failed: list[FailedTrial]
    not_run: list[tuple[str, int]]
    """Cells that have trials without a result, each with their number."""
    n_unplanned: int | None
    """Number of trials with results that are no longer in the sweep file; None if the plan is unknown."""
    unknown_fields: list[str]
    """Ignored spec fields: newer than the results, or older than this version."""


def progress_of(trials: pd.DataFrame, planned: Planned) -> Progress:
    """Return the progress of one sweep. Match planned trials by spec because ids differ between versions."""
    specs = flat_specs(trials)
    matched, unknown_fields = match_cells(planned.specs, specs)
    cells = {trial_id: str(one.cell) for one in matched for same in one.b.values() for trial_id in same}
    failed = [
        FailedTrial(
            trial_id=str(row["trial_id"]),
            cell=cells[str(row["trial_id"])],
            status=str(row["status"]),
            attempt=int(row["attempt"]),
            reason=_last_line(row["error"]),
            error="" if pd.isna(row["error"]) else str(row["error"]),
        )
        for row in trials[trials["status"] != "ok"].to_dict("records")
    ]
    not_run = [(str(one.cell), len(one.a.keys() - one.b.keys())) for one in matched]
    known = planned.problem is None
    return Progress(
        n_ok=int((trials["status"] == "ok").sum()),
        n_planned=len(planned.specs) if known else None,
        failed=failed,
        not_run=[(cell, n) for cell, n in not_run if n],
        n_unplanned=sum(len(one.b.keys() - one.a.keys()) for one in matched) if known else None,
        unknown_fields=unknown_fields if known else [],
    )


def _last_line(error: object) -> str:
    lines = [] if pd.isna(error) else str(error).strip().splitlines()  # type: ignore[call-overload]
    return lines[-1] if lines else "no reason is recorded"
