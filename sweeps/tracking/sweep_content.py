"""The contents of all MLflow runs of one sweep, computed from its folder alone, and written by nothing here."""

import json
from pathlib import Path

from analysis.results import with_current_names
from harness.cells import FlatSpec, flatten
from harness.results.read_back import AttemptReader, read_rows
from harness.results.trial_result import TrialRow
from sweeps.language.strict_yaml import SweepError
from sweeps.language.sweep_spec import load_sweep
from sweeps.tracking.comparisons import Comparisons
from sweeps.tracking.run_names import name_runs
from sweeps.tracking.run_view import RunView, view_of
from sweeps.tracking.trace_view import TraceView, traces_of


class SweepContent:
    """The contents of a sweep's runs. Attempts that end later are added."""

    def __init__(self, folder: Path) -> None:
        """Read the rows of the sweep whose results are in ``folder``. Raises ``StoreError``."""
        self._reader = AttemptReader(folder)
        self._comparisons = Comparisons(self._reader)
        self._specs = _planned(folder / "sweep.yaml")
        self._rows: dict[str, TrialRow] = {}
        for row in read_rows(folder):
            self._add(row)
        self._names = name_runs(self._specs)

    @property
    def rows(self) -> list[TrialRow]:
        """The attempt that counts of each trial, in the order in which they began."""
        return sorted(self._rows.values(), key=lambda row: (row.started_at, row.trial_id))

    @property
    def specs(self) -> dict[str, FlatSpec]:
        """The specs of all trials with results, by id."""
        return {row.trial_id: self._specs[row.trial_id] for row in self.rows}

    def add(self, trial_id: str, attempt: int) -> None:
        """Learn of an attempt, which may have come after the folder was read. Raises ``StoreError``."""
        known = self._rows.get(trial_id)
        if known is None or known.attempt < attempt:
            self._add(self._reader.row(trial_id, attempt))

    def run(self, trial_id: str, attempt: int) -> RunView:
        """Return the run of an attempt. Raises ``StoreError``."""
        if trial_id not in self._names:
            self._names = name_runs(self._specs)
        counts = self._rows[trial_id].attempt == attempt
        result = self._reader.result(trial_id, attempt)
        return view_of(result, self._names[trial_id], self.estimates(trial_id) if counts else {})

    def compared_with(self, trial_id: str) -> list[str]:
        """Return the other trials that are compared with this one."""
        return self._comparisons.depend_on(trial_id)

    def estimates(self, trial_id: str) -> dict[str, float]:
        """Return the numbers of a trial that need its turns or those of others, as far as these have ended."""
        return self._comparisons.metrics(trial_id)

    def ended_ms(self, trial_id: str) -> int:
        """Return when the attempt that counts ended, in milliseconds from 1970."""
        return int(self._rows[trial_id].ended_at.timestamp() * 1000)

    def names(self) -> dict[str, str]:
        """Return the names of the runs of all trials with results, by id."""
        self._names = name_runs(self._specs)
        return {trial_id: self._names[trial_id] for trial_id in self._rows}

    def traces(self, trial_id: str) -> list[TraceView]:
        """Return the traces of a trial's items. Raises ``StoreError``."""
        return list(traces_of(self._reader.result(trial_id, self._rows[trial_id].attempt)))

    def _add(self, row: TrialRow) -> None:
        known = self._rows.get(row.trial_id)
        if known is None or (row.status == "ok", row.attempt) >= (known.status == "ok", known.attempt):
            self._rows[row.trial_id] = row
            self._specs.setdefault(row.trial_id, flatten(json.loads(with_current_names(row.spec_json))))
            self._comparisons.add(row)


def _planned(path: Path) -> dict[str, FlatSpec]:
    """Return the specs of the trials that the sweep will have in the end, so that names need not change meanwhile."""
    if not path.is_file():
        return {}
    try:
        sweep = load_sweep(path)
    except (SweepError, OSError):  # of another version, or with a plug-in that is not installed here
        return {}
    return {trial.trial_id: flatten(trial.to_dict()) for trial in sweep.trials}
