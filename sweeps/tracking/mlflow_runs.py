"""The MLflow runs of one sweep: a parent run with one child run per trial, identified by tags."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.results.read_back import counted, read_attempt, read_rows
from sweeps.tracking.run_view import VIEW, DatasetView, table_json, view_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENT = "kvcomm"
FIGURES = "figures"
"""Folder in the parent run's artifacts."""

SweepEnd = Literal["FINISHED", "FAILED", "KILLED"]

TRIAL_COLUMNS = (
    "trial_id",
    "status",
    "attempt",
    "model",
    "workload",
    "agents",
    "rounds",
    "seed",
    "method",
    "n_samples",
    "accuracy",
    "token_reuse_rate",
    "turn_reuse_rate",
    "error",
)


@dataclass(frozen=True, slots=True)
class _Known:
    """A trial's run in MLflow."""

    run_id: str
    attempt: str | None
    """The attempt that the run shows, if it was written completely."""


class MlflowRuns:
    """Writes the runs of the sweep whose results are in a folder. Raises whatever MLflow raises."""

    def __init__(self, uri: str, folder: Path) -> None:
        """Connect. Find or make the experiment and the parent run, and mark the parent run as running."""
        from mlflow import MlflowClient

        self._client, self._folder = MlflowClient(tracking_uri=uri), folder
        self._experiment = _experiment(self._client, uri, folder.parent)
        parent_tags = {"kvcomm.kind": "sweep", "kvcomm.sweep": folder.name}
        found = self._search(parent_tags)
        began = min((_milliseconds(row.started_at) for row in read_rows(folder)), default=None)
        self._parent: str = (
            found[0] if found else self._client.create_run(self._experiment, began, parent_tags, run_name=folder.name)
        ).info.run_id
        self._client.update_run(self._parent, status="RUNNING")
        # One search for all: a search per trial would take longer with every trial of the sweep.
        children = self._search({"kvcomm.kind": "trial", "mlflow.parentRunId": self._parent})
        self._known = {run.data.tags["kvcomm.trial_id"]: _known(run) for run in children}

    def shown(self) -> dict[str, str]:
        """Return the completely written attempt of each trial's run, by trial id."""
        return {trial_id: known.attempt for trial_id, known in self._known.items() if known.attempt is not None}

    def log(self, trial_id: str, attempt: int) -> None:
        """Write the run of an attempt in Parquet. A later attempt of the same trial takes over the run."""
        from mlflow.entities import Metric, Param, RunTag

        client, view = self._client, view_of(read_attempt(self._folder, trial_id, attempt))
        known = self._known.get(trial_id)
        if known is None:
            tags = {
                "kvcomm.kind": "trial",
                "kvcomm.trial_id": trial_id,
                "mlflow.parentRunId": self._parent,
            }
            run = client.create_run(self._experiment, start_time=view.started_ms, run_name=view.name, tags=tags)
            known = _Known(run.info.run_id, None)
        else:
            client.update_run(known.run_id, status="RUNNING")  # until it holds the whole attempt
        self._known[trial_id] = _Known(known.run_id, None)
        client.log_batch(
            known.run_id,
            metrics=[Metric(name, value, view.ended_ms, step) for name, value, step in view.metrics],
            params=[Param(*param) for param in view.params.items()],
            tags=[RunTag(*tag) for tag in view.tags.items()],
        )
        if view.dataset is not None:
            self._log_dataset(known.run_id, view.dataset)
        self._log_files(known.run_id, view.files)
        client.set_terminated(known.run_id, view.status, view.ended_ms)
        self._known[trial_id] = _Known(known.run_id, str(attempt))

    def close(self, status: SweepEnd) -> None:
        """End the parent run: log the number of successful trials, their table, and the sweep's file."""
        from mlflow.entities import Metric, RunTag

        trials = counted(read_rows(self._folder))
        paths = [path for name in ("sweep.yaml", "environment.json") if (path := self._folder / name).is_file()]
        texts = {path.name: path.read_text(encoding="utf-8") for path in paths}
        ended_ms = max((_milliseconds(row.ended_at) for row in trials), default=0)
        n_ok = sum(row.status == "ok" for row in trials)
        # A metric's latest value is that of its last step, and attempts are only ever added.
        attempts = sum(row.attempt for row in trials)
        counts = {"n_trials": len(trials), "n_ok": n_ok, "n_failed": len(trials) - n_ok}
        self._client.log_batch(
            self._parent,
            metrics=[Metric(name, float(value), ended_ms, attempts) for name, value in counts.items()],
            tags=[RunTag("mlflow.loggedArtifacts", '[{"path": "trials.json", "type": "table"}]')],
        )
        self._log_files(self._parent, {**texts, "trials.json": table_json(trials, TRIAL_COLUMNS)})
        self._client.set_terminated(self._parent, status, ended_ms or None)

    def has_figures(self) -> bool:
        """Return whether the parent run has figures."""
        return any(file.path == FIGURES for file in self._client.list_artifacts(self._parent))

    def log_figures(self, folder: str) -> None:
        """Add the files of ``folder`` to the parent run's figures."""
        self._client.log_artifacts(self._parent, folder, FIGURES)

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

    def _log_dataset(self, run_id: str, view: DatasetView) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(name=view.name, digest=view.digest, source_type="kvcomm", source=view.source)
        self._client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "evaluation")])])


def _known(run: "Run") -> _Known:
    tags: dict[str, Any] = run.data.tags
    whole = run.info.status in ("FINISHED", "FAILED") and tags.get("kvcomm.view") == VIEW
    return _Known(run.info.run_id, tags.get("kvcomm.attempt") if whole else None)


def _experiment(client: "MlflowClient", uri: str, results: Path) -> str:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is not None:
        return str(experiment.experiment_id)
    local = (results / "mlflow-artifacts").absolute().as_uri() if uri.startswith("sqlite:") else None
    return str(client.create_experiment(EXPERIMENT, artifact_location=local))


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
