"""How far the sweeps of a results folder are."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from harness.store import read_attempts, read_trials, sweep_folders
from sweeps.spec import load_sweep


@dataclass(frozen=True, slots=True)
class Failure:
    """A trial whose latest attempt failed."""

    trial_id: str
    status: str
    attempt: int
    error: str


@dataclass(frozen=True, slots=True)
class SweepStatus:
    """One sweep, counted in trials."""

    sweep: str
    folder: str
    n_trials: int
    """In the sweep file that was last run."""
    n_ok: int
    n_failed: int
    n_left: int
    """Not begun, or begun and not ended."""
    n_other: int
    """With results, but not in the sweep file any more."""
    last_ended_at: datetime | None
    failures: tuple[Failure, ...]


def sweep_statuses(results: Path) -> list[SweepStatus]:
    """One entry per sweep. Raises ``StoreError`` or ``SweepError``."""
    return [_status(folder) for folder in sweep_folders(results)]


def _status(folder: Path) -> SweepStatus:
    planned = {trial.trial_id for trial in load_sweep(folder / "sweep.yaml").trials}
    attempts = read_attempts(folder)
    columns = ["trial_id", "attempt", "status", "error", "ended_at"]
    rows = read_trials(folder).select(columns).sort_by("ended_at").to_pylist()
    ok = {trial_id for trial_id, attempt in attempts.items() if attempt.finished is not None}
    failures = tuple(
        Failure(row["trial_id"], row["status"], row["attempt"], row["error"] or "")
        for row in rows
        if row["trial_id"] in planned - ok
        and row["status"] != "ok"
        and row["attempt"] == attempts[row["trial_id"]].last
    )
    return SweepStatus(
        sweep=folder.resolve().name,
        folder=str(folder),
        n_trials=len(planned),
        n_ok=len(planned & ok),
        n_failed=len(failures),
        n_left=len(planned - ok) - len(failures),
        n_other=len(attempts.keys() - planned),
        last_ended_at=rows[-1]["ended_at"] if rows else None,
        failures=failures,
    )
