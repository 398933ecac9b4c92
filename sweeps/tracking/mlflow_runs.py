"""The MLflow runs of one sweep: a parent run with one child run per trial, identified by tags.

``sweep_content`` computes all that is written here. Nothing of a run is written before all of it is known.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.tracking.experiment_view import save_view, set_up_experiment
from sweeps.tracking.mlflow_process import SweepEnd
from sweeps.tracking.parent_view import TRIAL_COLUMNS, fields_of, sweep_note
from sweeps.tracking.run_inputs import RunInputs
from sweeps.tracking.run_view import VIEW, RunView, at_the_end, table_json
from sweeps.tracking.sweep_content import SweepContent
from sweeps.tracking.trace_writer import TraceWriter

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

EXPERIMENT = "kvcomm"
FIGURES = "figures"
"""Folder in the parent run's artifacts."""
REPORT = "report.html"

FEW_ITEMS = 100
"""The most items of a sweep whose conversations become traces without being asked for."""


_TRACED = "kvcomm.traced"
"""Tag of a run: the attempt whose traces are complete."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A trial's run in MLflow."""

    run_id: str
    name: str
    attempt: str | None
    """The attempt that the run shows, if it was written completely."""
    traced: str | None


class MlflowRuns:
    """Writes the runs of the sweep whose results are in a folder. Raises whatever MLflow raises."""

    def __init__(self, uri: str, folder: Path) -> None:
        """Connect. Find or make the experiment and the parent run, and mark the parent run as running."""
        from mlflow import MlflowClient

        self._client, self._uri, self._folder = MlflowClient(tracking_uri=uri), uri, folder
        self._content = SweepContent(folder)
        self._experiment = _experiment(self._client, uri, folder.parent)
        self._inputs = RunInputs(self._client, self._experiment)
        parent_tags = {"kvcomm.kind": "sweep", "kvcomm.sweep": folder.name}
        found = self._search(parent_tags)
        began = min((int(row.started_at.timestamp() * 1000) for row in self._content.rows), default=None)
        self._sweep_run: Run = (
            found[0] if found else self._client.create_run(self._experiment, began, parent_tags, run_name=folder.name)
        )
        self._parent: str = self._sweep_run.info.run_id
        self._client.update_run(self._parent, status="RUNNING")
        # One search for all: a search per trial would take longer with every trial of the sweep.
        children = self._search({"kvcomm.kind": "trial", "mlflow.parentRunId": self._parent})
        self._known = {run.data.tags["kvcomm.trial_id"]: _known(run) for run in children}
        self._waiting: list[tuple[str, int]] = []

    def shown(self) -> dict[str, str]:
        """Return the completely written attempt of each trial's run, by trial id."""
        return {trial_id: known.attempt for trial_id, known in self._known.items() if known.attempt is not None}

    def log(self, trial_id: str, attempt: int) -> None:
        """Take in an attempt in Parquet. ``flush`` writes its run."""
        self._waiting.append((trial_id, attempt))
        self._content.add(trial_id, attempt)

    def flush(self, at_most: int) -> int:
        """Write the runs of the first ``at_most`` attempts taken in; return how many are left.

        A later attempt of a trial takes over its run. If trials written earlier are compared with these, their runs get
        the new numbers before these runs are complete, so an interruption leaves nothing that a sync would overlook.
        """
        now, self._waiting = self._waiting[:at_most], self._waiting[at_most:]
        views = [(trial_id, attempt, self._content.run(trial_id, attempt)) for trial_id, attempt in now]
        due = {trial_id for trial_id, _ in (*now, *self._waiting)}
        others = dict.fromkeys(other for trial_id, _ in now for other in self._content.compared_with(trial_id))
        updates = {
            other: self._content.estimates(other) for other in others if other in self._known and other not in due
        }
        for trial_id, _, view in views:
            self._write(self._begin(trial_id, view), view)
        for other, estimates in updates.items():
            metrics = _metrics(at_the_end(estimates), self._content.ended_ms(other))
            self._client.log_batch(self._known[other].run_id, metrics=metrics)
        for trial_id, attempt, view in views:
            known = self._known[trial_id]
            self._client.set_terminated(known.run_id, view.status, view.ended_ms)
            self._known[trial_id] = replace(known, attempt=str(attempt))
        return len(self._waiting)

    def untraced(self, everything: bool) -> list[str]:
        """Return the trials whose traces are missing, or none in a sweep of many items unless ``everything``."""
        rows = [row for row in self._content.rows if row.status == "ok" and row.n_samples]
        if not everything and sum(row.n_samples or 0 for row in rows) > FEW_ITEMS:
            return []
        known = self._known
        return [r.trial_id for r in rows if r.trial_id in known and known[r.trial_id].traced != str(r.attempt)]

    def trace(self, trial_id: str, start: int, at_most: int) -> bool:
        """Write ``at_most`` traces of a trial, from that of its item ``start`` on. Return whether some are left."""
        from mlflow.entities import RunTag

        known, traces = self._known[trial_id], self._content.traces(trial_id)
        TraceWriter(self._uri, self._experiment).write(known.run_id, traces[start : start + at_most])
        if start + at_most < len(traces):
            return True
        self._client.log_batch(known.run_id, tags=[RunTag(_TRACED, str(known.attempt))])
        self._known[trial_id] = replace(known, traced=known.attempt)
        return False

    def close(self, status: SweepEnd) -> None:
        """End the parent run: log its description, the number of successful trials, their table, and the sweep's
        file."""
        from mlflow.entities import RunTag

        trials = self._content.rows
        names = self._content.names()
        for trial_id, known in self._known.items():  # trials that came later may differ in what was the same before
            if known.name != names.get(trial_id, known.name):
                self._client.update_run(known.run_id, name=names[trial_id])
        paths = [path for name in ("sweep.yaml", "environment.json") if (path := self._folder / name).is_file()]
        texts = {path.name: path.read_text(encoding="utf-8") for path in paths}
        ended_ms = max((int(row.ended_at.timestamp() * 1000) for row in trials), default=0)
        n_ok = sum(row.status == "ok" for row in trials)
        # A metric's latest value is that of its last step, and attempts are only ever added.
        attempts = sum(row.attempt for row in trials)
        counts = {"n_trials": len(trials), "n_ok": n_ok, "n_failed": len(trials) - n_ok}
        note = sweep_note(self._folder.resolve(), trials, self._content.specs)
        self._client.log_batch(
            self._parent,
            metrics=_metrics([(name, float(value), attempts) for name, value in counts.items()], ended_ms),
            tags=[
                RunTag("mlflow.loggedArtifacts", '[{"path": "trials.json", "type": "table"}]'),
                RunTag("mlflow.note.content", note),
            ],
        )
        self._log_files(self._parent, {**texts, "trials.json": table_json(trials, TRIAL_COLUMNS)})
        swept, _ = fields_of(list(self._content.specs.values()))
        save_view(self._client, self._sweep_run, self._folder.name, list(swept), ended_ms)
        self._client.set_terminated(self._parent, status, ended_ms or None)

    def artifacts(self) -> list[str]:
        """Return the names of the parent run's artifacts."""
        return [file.path for file in self._client.list_artifacts(self._parent)]

    def log_figures(self, folder: str) -> None:
        """Add the files of ``folder`` to the parent run's figures."""
        self._client.log_artifacts(self._parent, folder, FIGURES)

    def log_report(self, path: str) -> None:
        """Add the file to the parent run's artifacts."""
        self._client.log_artifact(self._parent, path)

    def _begin(self, trial_id: str, view: RunView) -> str:
        """Return the id of a trial's run, which is marked as running until it holds the whole attempt."""
        known = self._known.get(trial_id)
        if known is None:
            tags = {
                "kvcomm.kind": "trial",
                "kvcomm.trial_id": trial_id,
                "mlflow.parentRunId": self._parent,
                "mlflow.runType": "evaluation",  # MLflow's pages compare such runs trace by trace
            }
            run = self._client.create_run(self._experiment, start_time=view.started_ms, run_name=view.name, tags=tags)
            known = _Known(run.info.run_id, view.name, None, None)
        else:
            self._client.update_run(known.run_id, status="RUNNING", name=view.name)
            for tag in self._client.get_run(known.run_id).data.tags.keys() & set(view.absent_tags):
                self._client.delete_tag(known.run_id, tag)
        self._known[trial_id] = replace(known, name=view.name, attempt=None, traced=None)
        return known.run_id

    def _write(self, run_id: str, view: RunView) -> None:
        from mlflow.entities import Param, RunTag

        self._client.log_batch(
            run_id,
            metrics=_metrics(view.metrics, view.ended_ms),
            params=[Param(*param) for param in view.params.items()],
            tags=[RunTag(*tag) for tag in view.tags.items()],
        )
        self._inputs.log(run_id, view.dataset, view.model)
        self._log_files(run_id, view.files)

    def _search(self, tags: dict[str, str]) -> list["Run"]:
        condition = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self._client.search_runs([self._experiment], condition, max_results=1000, page_token=token)
            runs.extend(page)
            token = page.token
            if not token:
                return runs

    def _log_files(self, run_id: str, files: Mapping[str, str]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                (Path(folder) / name).write_text(text, encoding="utf-8")
            self._client.log_artifacts(run_id, folder)


def _metrics(triples: list[tuple[str, float, int]], moment_ms: int) -> list["Metric"]:
    from mlflow.entities import Metric

    return [Metric(name, value, moment_ms, step) for name, value, step in triples]


def _known(run: "Run") -> _Known:
    tags: dict[str, Any] = run.data.tags
    whole = run.info.status in ("FINISHED", "FAILED") and tags.get("kvcomm.view") == VIEW
    attempt = tags.get("kvcomm.attempt") if whole else None
    return _Known(run.info.run_id, run.info.run_name, attempt, tags.get(_TRACED) if whole else None)


def _experiment(client: "MlflowClient", uri: str, results: Path) -> str:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is not None:
        return str(experiment.experiment_id)
    local = (results / "mlflow-artifacts").absolute().as_uri() if uri.startswith("sqlite:") else None
    made = str(client.create_experiment(EXPERIMENT, artifact_location=local))
    set_up_experiment(client, made)
    return made
