"""The progress of the sweeps in a results folder, read from its files alone."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.results.damaged_files import DamagedFile, files_set_aside, find_damaged
from harness.results.sweep_folder import read_attempts, read_trials, sweep_folders
from sweeps.language.sweep_spec import load_sweep
from sweeps.status.running_file import Snapshot, is_alive, read_running


@dataclass(frozen=True, slots=True)
class Failure:
    """A trial whose latest attempt has failed."""

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
    """Trials in the sweep file of the last run."""
    n_ok: int
    n_failed: int
    n_left: int
    """Trials that have not ended, whether begun or not."""
    n_other: int
    """Trials with results that are no longer in the sweep file."""
    last_ended_at: datetime | None
    failures: tuple[Failure, ...]
    running: Snapshot | None
    """The controller's last snapshot. None if there is none."""
    controller_gone: bool
    """Whether that controller vanished without ending its run: it or its machine was killed."""
    damaged: tuple[DamagedFile, ...]
    """Damaged files, which do not count; the next run sets them aside."""
    set_aside: tuple[Path, ...]
    """Damaged files that earlier runs set aside."""


def sweep_statuses(results: Path) -> list[SweepStatus]:
    """Return the status of each sweep. Raises ``StoreError`` or ``SweepError``."""
    return [_status(folder) for folder in sweep_folders(results)]


def _status(folder: Path) -> SweepStatus:
    planned = {trial.trial_id for trial in load_sweep(folder / "sweep.yaml").trials}
    damaged = tuple(find_damaged(folder))
    damaged_paths = {file.path for file in damaged}
    attempts = read_attempts(folder, without=damaged_paths)
    running = read_running(folder)
    columns = ["trial_id", "attempt", "status", "error", "ended_at"]
    rows = read_trials(folder, without=damaged_paths, columns=columns).sort_by("ended_at").to_pylist()
    ok = {trial_id for trial_id, attempt in attempts.items() if attempt.finished is not None}
    undone = planned - ok
    failures = tuple(
        Failure(row["trial_id"], row["status"], row["attempt"], row["error"] or "")
        for row in rows
        if row["trial_id"] in undone and row["status"] != "ok" and row["attempt"] == attempts[row["trial_id"]].last
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
        running=running,
        controller_gone=running is not None and not is_alive(running, datetime.now(UTC)),
        damaged=damaged,
        set_aside=tuple(files_set_aside(folder)),
    )
