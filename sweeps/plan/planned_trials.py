"""The trials that the sweep files in a results folder name, for a report on what is missing."""

from pathlib import Path

from analysis.report.failures import Planned
from harness.cells import flatten
from harness.results.sweep_folder import sweep_folders
from sweeps.language.strict_yaml import SweepError
from sweeps.language.sweep_spec import load_sweep


def planned_trials(results: Path) -> dict[str, Planned]:
    """Return each sweep's planned trials. An unreadable file affects only its sweep. Raises ``StoreError``."""
    return {folder.resolve().name: _planned(folder / "sweep.yaml") for folder in sweep_folders(results)}


def _planned(path: Path) -> Planned:
    if path.exists() and not path.is_file():  # a pipe would be waited for
        return Planned({}, "is no regular file")
    try:
        sweep = load_sweep(path)
    except SweepError as error:
        return Planned({}, str(error).removeprefix(f"{path}: "))
    return Planned({trial.trial_id: flatten(trial.to_dict()) for trial in sweep.trials})
