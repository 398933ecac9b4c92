"""MLflow rebuilt from Parquet, as often as one likes: what is there and complete stays as it is.

The figures of a sweep are drawn here alone, since a run that has ended should not wait for them.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.mlflow_runs import SweepEnd
from harness.read_back import read_result, read_rows
from harness.records import TrialRow
from harness.store import StoreError, holding, sweep_folders
from harness.tracking import close_runs, open_runs, tracking_uri
from sweeps.spec import SweepSpec, load_sweep


class TrackingError(Exception):
    """MLflow cannot be written; one line that says where and why."""


@dataclass(frozen=True, slots=True)
class Synced:
    """What was done for one sweep."""

    sweep: str
    trials: int
    """With results in the folder."""
    written: int
    """Whose run was missing, or did not show the attempt that counts."""
    running: bool
    """Another process is at work on it, a controller most likely, and writes the runs itself; nothing was done."""


def default_uri(results: Path) -> str:
    """Where the runs of these results are: ``MLFLOW_TRACKING_URI``, or beside the sweeps. Raises ``StoreError``."""
    return tracking_uri(sweep_folders(results)[0].resolve().parent)


def mlflow_sync(results: Path, uri: str) -> list[Synced]:
    """Write the runs of every sweep of a results folder. Raises ``StoreError``, ``SweepError`` or ``TrackingError``."""
    return [_sync(folder, uri) for folder in sweep_folders(results)]


def _sync(folder: Path, uri: str) -> Synced:
    from analysis.figures.saving import save_figures  # not above, as drawing takes a second to import
    from analysis.load import load, load_long

    sweep = folder.resolve().name
    attempts: dict[str, list[TrialRow]] = {}
    with holding(folder) as held:
        for row in read_rows(folder):
            attempts.setdefault(row.trial_id, []).append(row)
        if not held:
            return Synced(sweep, len(attempts), 0, running=True)
        path = folder / "sweep.yaml"
        end = _end(load_sweep(path) if path.is_file() else None, attempts)
        with _one_line(uri):
            runs = open_runs(uri, folder.resolve())
            stale = [rows for rows in attempts.values() if not runs.shows(rows[-1])]
            for row in (row for rows in stale for row in rows):  # every attempt, as they came
                runs.log(read_result(folder, row))
            close_runs(runs, folder, end)
            figures_missing = not runs.has_figures()
        if stale or figures_missing:
            with tempfile.TemporaryDirectory() as drawn:
                save_figures(load(folder), load_long(folder), Path(drawn))
                with _one_line(uri):
                    for figures in Path(drawn).iterdir():  # none, if the results hold nothing for one
                        runs.log_figures(figures)
        return Synced(sweep, len(attempts), len(stale), running=False)


def _end(sweep: SweepSpec | None, attempts: dict[str, list[TrialRow]]) -> SweepEnd:
    """As a controller that ran the sweep to where it is would have said; ``sweep`` is None if it is not known."""
    if sweep is not None:
        expected = (trial for trial in sweep.trials if trial.workload.name not in sweep.skip_if_missing)
        if any(trial.trial_id not in attempts for trial in expected):
            return "KILLED"
    return "FINISHED" if all(rows[-1].status == "ok" for rows in attempts.values()) else "FAILED"


@contextmanager
def _one_line(uri: str) -> Iterator[None]:
    try:
        yield
    except (StoreError, KeyboardInterrupt):
        raise
    except ModuleNotFoundError as error:
        raise TrackingError(f"{error.name} is not installed; MLflow needs it") from None
    except Exception as error:  # noqa: BLE001 - MLflow's own errors, SQLAlchemy's, requests': no common base
        reason = " ".join(str(error).split())[:200]
        raise TrackingError(f"MLflow at {_without_password(uri)} cannot be written: {reason}") from None


def _without_password(uri: str) -> str:
    scheme, slashes, rest = uri.partition("://")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}" if "@" in rest else uri
