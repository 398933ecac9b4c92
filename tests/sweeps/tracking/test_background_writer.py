"""MLflow as a view: complete, without duplicates, and never in the way."""

import json
import subprocess
import sys

import pytest

from harness.results.results_writer import ResultsWriter
from harness.spec import TrialSpec
from sweeps.tracking.background_writer import Tracking, tracking_uri
from sweeps.tracking.mlflow_process import MlflowProcess

SPEC = TrialSpec(method="kvcomm")


@pytest.fixture(autouse=True)
def _own_uri(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def written(tmp_path, make_result):
    """``written(spec, ...)`` puts a made-up attempt of the sweep ``smoke`` on disk; its row."""
    writer = ResultsWriter(tmp_path, "smoke")
    writer.write_text("sweep.yaml", "name: smoke\n")

    def write(spec, **settings):
        result = make_result(spec, sweep="smoke", **settings)
        writer.write(result)
        return result.trial

    yield write
    writer.close()


@pytest.mark.slow
def test_a_run_per_sweep_and_per_trial_and_no_duplicates(tmp_path, written, mlflow_db, mlflow_here, monkeypatch, capfd):
    """Catches a second parent or child on resume, metrics of a failed attempt logged as 0, and log floods. The last of
    three runs has a process for MLflow, as all have for users."""
    from mlflow import MlflowClient

    warnings = []
    failed, finished = (written(SPEC, status=status, attempt=at) for status, at in [("error", 1), ("ok", 2)])
    for row, status, own_process in [(failed, "error", False), (finished, "ok", False), (finished, "ok", True)]:
        if own_process:
            monkeypatch.setattr("sweeps.tracking.background_writer.MlflowProcess", MlflowProcess)
        tracking = Tracking(tmp_path, "smoke", warnings.append, end_s=300)
        tracking.log(row)
        tracking.close("FINISHED")
        client = MlflowClient(tracking_uri=tracking_uri(tmp_path))
        found = client.search_runs([client.get_experiment_by_name("kvcomm").experiment_id])
        by_kind = {run.data.tags["kvcomm.kind"]: run for run in found}
        assert len(found) == 2
        child = by_kind["trial"]
        assert ("accuracy" in child.data.metrics) == (status == "ok")
        assert child.info.status == ("FINISHED" if status == "ok" else "FAILED")
        assert bool(child.data.tags.get("kvcomm.error")) == (status != "ok")
    assert warnings == []
    parent = by_kind["sweep"]
    assert (parent.info.status, parent.info.run_name) == ("FINISHED", "smoke")
    assert parent.data.metrics == {"n_trials": 1, "n_ok": 1, "n_failed": 0}
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} == {"sweep.yaml", "trials.json"}
    tags = {"mlflow.parentRunId": parent.info.run_id, "kvcomm.trial_id": SPEC.trial_id, "kvcomm.attempt": "2"}
    assert tags.items() <= child.data.tags.items()
    assert child.data.metrics["accuracy"] == 0.5
    assert child.data.metrics["duration_s"] == 60
    assert "pool_bytes_max" not in child.data.metrics
    assert child.data.params["kvcomm.gamma"] == "0.3"
    curve = client.get_metric_history(child.info.run_id, "running/accuracy")
    assert [(point.step, point.value) for point in curve] == [(0, 1.0), (1, 0.5)]
    (inputs,) = child.inputs.dataset_inputs
    assert inputs.dataset.name == "recall"
    assert {file.path for file in client.list_artifacts(child.info.run_id)} == {
        "spec.json",
        "samples.json",
        "turns.json",
    }
    (spec,) = (tmp_path / "mlflow-artifacts").rglob("spec.json")
    assert json.loads(spec.read_text()) == SPEC.to_dict()
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


@pytest.mark.slow
def test_mlflow_that_fails_warns_once(tmp_path, written, monkeypatch):
    """Catches a sweep that stops, or nags, because MLflow is away."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/file/mlflow.db")
    (tmp_path / "file").write_text("in the way of a folder")
    warnings = []
    tracking = Tracking(tmp_path, "smoke", warnings.append, end_s=300)
    tracking.log(written(SPEC))
    tracking.log(written(TrialSpec()))
    tracking.close("FINISHED")
    assert len(warnings) == 1
    assert "\n" not in warnings[0]


def test_an_interrupted_sweep_does_not_write_what_is_left(tmp_path, written, monkeypatch):
    """Catches a Ctrl-C that takes minutes, while thousands of runs are still written."""
    rows = [written(TrialSpec(seed=seed)) for seed in range(3)]
    logged, closed = [], []

    class SlowProcess:
        def open(self, uri, folder):
            return {}

        def log(self, trial_id, attempt):
            logged.append(trial_id)
            tracking._status = "KILLED"  # as if Ctrl-C came now

        def close(self, status):
            closed.append(status)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr("sweeps.tracking.background_writer.MlflowProcess", SlowProcess)
    tracking = Tracking(tmp_path, "smoke", pytest.fail)
    for row in rows:
        tracking.log(row)
    tracking.close("KILLED")
    assert len(logged) <= 1
    assert closed == ["KILLED"]


def test_mlflow_that_is_not_installed_warns_once(tmp_path):
    """Catches an import at module level: a GPU machine may have no mlflow."""
    code = (
        "import sys; sys.modules['mlflow'] = None\n"
        "from pathlib import Path; from sweeps.tracking.background_writer import Tracking\n"
        f"t = Tracking(Path({str(tmp_path)!r}), 's', print); t.close('FINISHED')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("MLflow is left out from here on")
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""
