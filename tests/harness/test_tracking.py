"""MLflow as a view: complete, without duplicates, and never in the way."""

import json
import subprocess
import sys

import pytest

from harness.spec import TrialSpec
from harness.tracking import Tracking, tracking_uri

pytestmark = pytest.mark.slow

SPEC = TrialSpec(method="kvcomm")


@pytest.fixture(autouse=True)
def _own_uri(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def runs(results):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=tracking_uri(results))
    (experiment,) = [e for e in client.search_experiments() if e.name == "kvcomm"]
    found = client.search_runs([experiment.experiment_id])
    return client, {run.data.tags["kvcomm.kind"]: run for run in found}, len(found)


def test_a_run_per_sweep_and_per_trial_and_no_duplicates(tmp_path, make_result, capfd):
    """Catches a second parent or child on resume, metrics of a failed attempt logged as 0, and log floods."""
    warnings = []
    for status, attempt in [("error", 1), ("ok", 2), ("ok", 2)]:
        tracking = Tracking(tmp_path, "smoke", warnings.append)
        tracking.log(SPEC, make_result(SPEC, status=status, attempt=attempt))
        tracking.close("FINISHED")
        client, by_kind, count = runs(tmp_path)
        assert count == 2
        child = by_kind["trial"]
        assert ("accuracy" in child.data.metrics) == (status == "ok")
        assert child.info.status == ("FINISHED" if status == "ok" else "FAILED")
    assert warnings == []
    assert by_kind["sweep"].info.status == "FINISHED"
    assert by_kind["sweep"].info.run_name == "smoke"
    assert child.data.tags["mlflow.parentRunId"] == by_kind["sweep"].info.run_id
    assert child.data.tags["kvcomm.trial_id"] == SPEC.trial_id
    assert child.data.tags["kvcomm.attempt"] == "2"
    assert child.data.metrics["accuracy"] == 0.5
    assert child.data.metrics["duration_s"] == 60
    assert "pool_bytes_max" not in child.data.metrics
    assert child.data.params["kvcomm.gamma"] == "0.3"
    (artifact,) = client.list_artifacts(child.info.run_id)
    assert artifact.path == "spec.json"
    (spec,) = (tmp_path / "mlflow-artifacts").rglob("spec.json")
    assert json.loads(spec.read_text()) == SPEC.to_dict()
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_mlflow_that_fails_warns_once(tmp_path, make_result, monkeypatch):
    """Catches a sweep that stops, or nags, because MLflow is away."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/file/mlflow.db")
    (tmp_path / "file").write_text("in the way of a folder")
    warnings = []
    tracking = Tracking(tmp_path, "smoke", warnings.append)
    tracking.log(SPEC, make_result(SPEC))
    tracking.close("FINISHED")
    assert len(warnings) == 1
    assert "\n" not in warnings[0]


def test_mlflow_that_is_not_installed_warns_once(tmp_path):
    """Catches an import at module level: a GPU machine may have no mlflow."""
    code = (
        "import sys; sys.modules['mlflow'] = None\n"
        "from pathlib import Path; from harness.tracking import Tracking\n"
        f"t = Tracking(Path({str(tmp_path)!r}), 's', print); t.close('FINISHED')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("MLflow is left out from here on")
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""
