"""MLflow: a view of the results, written by the controller alone. The truth is in Parquet.

One parent run per sweep and one child per trial, found again by tags, so running a sweep again adds no second one.
MLflow being absent or failing costs one warning and loses nothing.
"""

import json
import logging
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.cells import flatten
from harness.records import TrialResult, TrialRow
from harness.spec import TrialSpec

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENT = "kvcomm"

METRICS = (
    "n_samples",
    "n_correct",
    "accuracy",
    "token_reuse_rate",
    "turn_reuse_rate",
    "kl_mean",
    "top1_rate",
    "greedy_agreement_mean",
    "pool_bytes_max",
    "pool_bytes_public_layout",
)
"""Fields of a trial's row that are logged as metrics, unless unknown."""

_MAX_PARAM = 6000  # MLflow refuses a longer value


def tracking_uri(results: Path) -> str:
    """``MLFLOW_TRACKING_URI`` if set, else a sqlite file in the results folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{results / 'mlflow.db'}"


class Tracking:
    """The MLflow runs of one sweep. After its first failure it warns once and does nothing more."""

    def __init__(self, results: Path, sweep: str, warn: Callable[[str], None]) -> None:
        """Connect and find or make the parent run. Never raises for MLflow's sake: see ``warn``."""
        self._warn, self._sweep = warn, sweep
        self._client: MlflowClient | None = None
        self._guard(lambda: self._open(results))

    def log(self, spec: TrialSpec, result: TrialResult) -> None:
        """Write the child run of a trial's attempt; a later attempt of the same trial takes the run over."""
        if self._client is not None:
            self._guard(lambda: self._log(spec, result.trial))

    def close(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """End the parent run."""
        if (client := self._client) is not None:
            self._guard(lambda: client.set_terminated(self._parent, status))

    def _guard(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - whatever ails MLflow, the sweep goes on
            self._client = None
            reason = " ".join(str(error).split())[:200]
            self._warn(f"MLflow is left out from here on, results are in Parquet alike: {reason}")

    def _open(self, results: Path) -> None:
        from mlflow import MlflowClient

        # The first connection makes the schema and logs each step of it. Importing mlflow resets these levels.
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)

        uri = tracking_uri(results)
        client = MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is not None:
            self._experiment = experiment.experiment_id
        else:
            local = uri.startswith("sqlite:")
            place = (results / "mlflow-artifacts").absolute().as_uri() if local else None
            self._experiment = client.create_experiment(EXPERIMENT, artifact_location=place)
        tags = {"kvcomm.kind": "sweep", "kvcomm.sweep": self._sweep}
        self._parent: str = self._find_or_create(client, self._sweep, tags).info.run_id
        client.update_run(self._parent, status="RUNNING")
        self._client = client

    def _find_or_create(self, client: "MlflowClient", name: str, tags: dict[str, str]) -> "Run":
        condition = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        found = client.search_runs([self._experiment], condition, max_results=1)
        return found[0] if found else client.create_run(self._experiment, run_name=name, tags=tags)

    def _log(self, spec: TrialSpec, row: TrialRow) -> None:
        client = self._client
        assert client is not None  # noqa: S101 - log has looked
        tags = {"kvcomm.kind": "trial", "kvcomm.trial_id": row.trial_id, "mlflow.parentRunId": self._parent}
        name = f"{row.workload}-{row.agents}-{row.method}-{row.trial_id}"
        run_id = self._find_or_create(client, name, tags).info.run_id
        from mlflow.entities import Metric, Param, RunTag

        ended_ms = int(row.ended_at.timestamp() * 1000)
        values = {name: getattr(row, name) for name in METRICS}
        values["duration_s"] = (row.ended_at - row.started_at).total_seconds()
        client.log_batch(
            run_id,
            # MLflow stores an infinity as a huge number, and has no value for unknown.
            metrics=[
                Metric(key, float(value), ended_ms, 0)
                for key, value in values.items()
                if value is not None and math.isfinite(value)
            ],
            params=[Param(key, str(value)[:_MAX_PARAM]) for key, value in flatten(spec.to_dict()).items()],
            tags=[
                RunTag(f"kvcomm.{key}", str(getattr(row, key)))
                for key in ("attempt", "status", "method", "model", "workload", "host", "device", "git_commit")
            ],
        )
        client.log_text(run_id, json.dumps(spec.to_dict(), indent=2), "spec.json")
        client.set_terminated(run_id, "FINISHED" if row.status == "ok" else "FAILED", ended_ms)
