"""What a sweep has no results of: trials that failed, and trials that were planned and not run."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from harness.cells import FlatSpec, flatten, name_cells


@dataclass(frozen=True, slots=True)
class Planned:
    """The trials that a sweep's file names."""

    specs: Mapping[str, FlatSpec]
    """By trial id."""
    problem: str | None = None
    """Why they are not known: the sweep file is missing, or of another version; None if they are."""


@dataclass(frozen=True, slots=True)
class FailedTrial:
    """A trial none of whose attempts ended well."""

    trial_id: str
    cell: str
    status: str
    attempt: int
    reason: str
    """Last line of the error."""
    error: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of a sweep there is."""

    n_ok: int
    n_planned: int | None
    """None if the plan is not known."""
    failed: list[FailedTrial]
    not_run: list[tuple[str, int]]
    """Cells with trials that left no result, and how many of these."""
    n_unplanned: int | None
    """Trials with results that are not in the sweep file any more."""


def progress_of(trials: pd.DataFrame, planned: Planned) -> Progress:
    """Of the counted trials of one sweep."""
    specs = {
        str(trial_id): flatten(json.loads(text))
        for trial_id, text in zip(trials["trial_id"], trials["spec_json"], strict=True)
    }
    every = {**planned.specs, **specs}
    cells = {trial_id: str(cell) for trial_id, cell in zip(every, name_cells(list(every.values())), strict=True)}
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
    not_run = Counter(cells[trial_id] for trial_id in planned.specs if trial_id not in specs)
    known = planned.problem is None
    return Progress(
        n_ok=int((trials["status"] == "ok").sum()),
        n_planned=len(planned.specs) if known else None,
        failed=failed,
        not_run=list(not_run.items()),
        n_unplanned=len(specs.keys() - planned.specs.keys()) if known else None,
    )


def _last_line(error: object) -> str:
    lines = [] if pd.isna(error) else str(error).strip().splitlines()  # type: ignore[call-overload]
    return lines[-1] if lines else "no reason is recorded"
