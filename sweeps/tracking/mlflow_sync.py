"""The rebuilding of MLflow from Parquet. It may be repeated: complete runs stay as they are.

Only this module draws a sweep's figures, since a sweep should not wait for them when it ends.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness.redaction import redact
from harness.results.folder_lock import holding
from harness.results.read_back import read_rows
from harness.results.sweep_folder import sweep_folders
from harness.results.trial_result import TrialRow
from sweeps.language.sweep_spec import SweepSpec, load_sweep
from sweeps.tracking.mlflow_process import CALL_S, MlflowError, MlflowProcess
from sweeps.tracking.mlflow_runs import SweepEnd


class TrackingError(Exception):
    """MLflow cannot be written. The message says where and why in one line."""


@dataclass(frozen=True, slots=True)
class Synced:
    """The result of a sync for one sweep."""

    sweep: str
    trials: int
    """Trials with results in the folder."""
    written: int
    """Trials whose run was missing, or did not show the attempt that counts."""
    running: bool
    """Whether another process, most likely a controller, writes the runs itself; the sync then does nothing."""


def mlflow_sync(results: Path, uri: str, *, call_s: float = CALL_S) -> list[Synced]:
    """Write the runs of every sweep of a results folder. Raises ``StoreError``, ``SweepError`` or ``TrackingError``.

    ``call_s`` limits the seconds that MLflow may take for one run. All runs together may take longer, as long as MLflow
    makes progress.
    """
    try:
        return [_sync(folder, uri, call_s) for folder in sweep_folders(results)]
    except MlflowError as error:
        raise TrackingError(f"MLflow at {redact(uri)} cannot be written: {error}") from None


def _sync(folder: Path, uri: str, call_s: float) -> Synced:
    from analysis.figures.saving import save_figures  # imported here, as it takes a second
    from analysis.results import Results

    sweep = folder.resolve().name
    attempts: dict[str, list[TrialRow]] = {}
    with holding(folder) as held:
        for row in read_rows(folder):
            attempts.setdefault(row.trial_id, []).append(row)
        if not held:
            return Synced(sweep, len(attempts), 0, running=True)
        path = folder / "sweep.yaml"
        end = _end(load_sweep(path) if path.is_file() else None, attempts)
        with MlflowProcess(call_s) as mlflow:
            shown = mlflow.open(uri, folder.resolve())
            stale = [rows for trial_id, rows in attempts.items() if shown.get(trial_id) != str(rows[-1].attempt)]
            for row in (row for rows in stale for row in rows):  # every attempt, in order
                mlflow.log(row.trial_id, row.attempt)
            mlflow.close(end)
            if stale or not mlflow.has_figures():
                with tempfile.TemporaryDirectory() as drawn:
                    save_figures(Results(folder), Path(drawn))
                    for figures in Path(drawn).iterdir():  # none if the results suffice for no figure
                        mlflow.log_figures(figures)
        return Synced(sweep, len(attempts), len(stale), running=False)


def _end(sweep: SweepSpec | None, attempts: dict[str, list[TrialRow]]) -> SweepEnd:
    """Return what a controller would have reported at this state. ``sweep`` is None if the sweep is unknown."""
    if sweep is not None:
        expected = (trial for trial in sweep.trials if trial.workload.name not in sweep.skip_if_missing)
        if any(trial.trial_id not in attempts for trial in expected):
            return "KILLED"
    return "FINISHED" if all(rows[-1].status == "ok" for rows in attempts.values()) else "FAILED"
