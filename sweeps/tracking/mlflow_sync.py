"""The rebuilding of MLflow from Parquet. It may be repeated: complete runs stay as they are.

Only this module draws a sweep's figures and makes its report, since a sweep should not wait for them when it ends.
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
from sweeps.tracking.mlflow_process import CALL_S, MlflowError, MlflowProcess, SweepEnd, TrackingError
from sweeps.tracking.mlflow_runs import FIGURES, REPORT

FEW_TRIALS = 100
"""The most trials of a sweep whose report is made without being asked for: it takes a second for every few trials."""


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


@dataclass(frozen=True, slots=True)
class Extras:
    """The parts of MLflow's view that cost more than the rest."""

    report: bool | None = None
    """Whether a sweep's parent run gets its report. None gives it to sweeps of few trials."""
    traces: bool = False
    """Whether every item becomes a trace, and not only the items of sweeps that have few."""


def mlflow_sync(
    results: Path,
    uri: str,
    extras: Extras = Extras(),
    *,
    call_s: float = CALL_S,
) -> list[Synced]:
    """Write the runs of every sweep of a results folder. Raises ``StoreError``, ``SweepError`` or ``TrackingError``.

    ``call_s`` limits the seconds that MLflow may take for one run. All runs together may take longer, as long as MLflow
    makes progress.
    """
    try:
        return [_sync(folder, uri, extras, call_s) for folder in sweep_folders(results)]
    except MlflowError as error:
        raise TrackingError(f"MLflow at {redact(uri)} cannot be written: {error}") from None


def _sync(folder: Path, uri: str, extras: Extras, call_s: float) -> Synced:
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
            mlflow.flush()
            for trial_id in mlflow.untraced(everything=extras.traces):
                mlflow.trace(trial_id)
            mlflow.close(end)
            there = [] if stale else mlflow.artifacts()
            if FIGURES not in there:
                _draw(folder, mlflow)
            few = len(attempts) <= FEW_TRIALS
            if REPORT not in there and (few if extras.report is None else extras.report):
                _report(folder, mlflow)
        return Synced(sweep, len(attempts), len(stale), running=False)


def _draw(folder: Path, mlflow: MlflowProcess) -> None:
    from analysis.figures.saving import save_figures  # imported here, as it takes a second
    from analysis.results import Results

    with tempfile.TemporaryDirectory() as drawn:
        save_figures(Results(folder), Path(drawn))
        for figures in Path(drawn).iterdir():  # none if the results suffice for no figure
            mlflow.log_figures(figures)


def _report(folder: Path, mlflow: MlflowProcess) -> None:
    from analysis.report.page import render_report  # imported here, as it takes a second
    from sweeps.plan.planned_trials import planned_trials

    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / REPORT
        path.write_text(render_report(folder, planned_trials(folder)), encoding="utf-8")
        mlflow.log_report(path)


def _end(sweep: SweepSpec | None, attempts: dict[str, list[TrialRow]]) -> SweepEnd:
    """Return what a controller would have reported at this state. ``sweep`` is None if the sweep is unknown."""
    if sweep is not None:
        expected = (trial for trial in sweep.trials if trial.workload.name not in sweep.skip_if_missing)
        if any(trial.trial_id not in attempts for trial in expected):
            return "KILLED"
    return "FINISHED" if all(rows[-1].status == "ok" for rows in attempts.values()) else "FAILED"
