"""MLflow rebuilt from Parquet equals MLflow written meanwhile, however often it is done."""

import shutil
import subprocess
import sys
from uuid import uuid4

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from harness.results.results_writer import ResultsWriter
from harness.spec import TrialSpec
from sweeps.cli import app
from sweeps.language.sweep_spec import load_sweep
from sweeps.tracking.background_writer import Tracking

SWEEP = """
name: s
workload: {name: recall, limit: 2}
skip_if_missing: [gsm8k]
grid:
  agents: [2, 3]
  method: [dense, kvcomm]
"""


@pytest.fixture(autouse=True)
def _own_uri(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def specs(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(SWEEP)
    return load_sweep(path).trials


def kvcomm(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def snapshot(results):
    """All that the runs say, read from a copy: MLflow keeps a store open that was deleted meanwhile."""
    copy = results / f"copy-{uuid4().hex}.db"
    shutil.copy(results / "mlflow.db", copy)
    client = MlflowClient(tracking_uri=f"sqlite:///{copy}")
    experiment = [client.get_experiment_by_name("kvcomm").experiment_id]
    found = client.search_runs(experiment, max_results=1000)
    names = {run.info.run_id: run.info.run_name for run in found}
    runs = {}
    for run in found:
        tags = {k: names[v] if k == "mlflow.parentRunId" else v for k, v in run.data.tags.items()}
        runs[run.info.run_name] = {
            "status": run.info.status,
            "start": run.info.start_time,
            "end": run.info.end_time,
            "tags": tags,
            "params": run.data.params,
            "metrics": {
                k: sorted((m.step, m.value, m.timestamp) for m in client.get_metric_history(run.info.run_id, k))
                for k in run.data.metrics
            },
            "datasets": [i.dataset.digest for i in run.inputs.dataset_inputs],
            "models": len(client.get_run(run.info.run_id).inputs.model_inputs),
            "traces": sorted(
                trace_of(trace) for trace in client.search_traces(locations=experiment, run_id=run.info.run_id)
            ),
            "files": {f.path: f.file_size for f in client.list_artifacts(run.info.run_id)},
        }
    assert len(runs) == len(found)
    runs["s"]["files"].pop("report.html", None)  # which only a sync makes
    figures = {name: run["files"].pop("figures", "none") for name, run in runs.items()}
    assert set(figures.values()) <= {"none", None}, "a folder has no size"
    began = runs["s"].pop("start")  # of a live sweep that is now, and made-up trials began long ago
    return runs, began, figures["s"] is None


def trace_of(trace):
    """What a trace says, without what depends on its run's id."""
    spans = [(span.name, span.start_time_ns, span.end_time_ns, str(span.outputs)) for span in trace.data.spans]
    graded = sorted((one.name, str(one.value)) for one in trace.info.assessments)
    return trace.info.trace_id, spans, graded, trace.info.response_preview


def run_sweep(results, make_result, attempts, end="FINISHED"):
    """The attempts on disk and in MLflow, as a controller records them."""
    writer = ResultsWriter(results, "s")
    writer.write_text("sweep.yaml", SWEEP)
    writer.write_text("environment.json", "{}")
    tracking = Tracking(results, "s", pytest.fail, end_s=300)
    for spec, status, attempt in attempts:
        result = make_result(spec, sweep="s", status=status, attempt=attempt, samples=3)
        writer.write(result)
        tracking.log(result.trial)
    tracking.close(end)
    writer.close()


@pytest.mark.slow
def test_sync_changes_nothing_and_rebuilds_everything(
    tmp_path, make_result, specs, empty_mlflow_db, mlflow_db, mlflow_here, blank_pictures
):
    """Catches a live recording and a sync that say different things, duplicates, and a sync that does work twice."""
    a, b, c, d = specs
    attempts = [(a, "killed", 1), (a, "ok", 2), (b, "ok", 1), (c, "error", 1), (d, "ok", 1)]
    run_sweep(tmp_path, make_result, attempts, end="FAILED")
    live, _, figures = snapshot(tmp_path)
    assert len(live) == 5
    assert not figures
    assert live["s"]["status"] == "FAILED"
    kvcomm_run = live["2 agents kvcomm"]
    assert kvcomm_run["metrics"]["speedup"][0][1] == 2.0
    assert [len(run["traces"]) for run in (kvcomm_run, live["s"], live["3 agents dense"])] == [3, 0, 0]

    assert "s: 4 trials, 0 runs written" in kvcomm("mlflow-sync", tmp_path).stdout
    synced, _, figures = snapshot(tmp_path)
    assert synced == live
    assert figures

    shutil.copy(empty_mlflow_db, mlflow_db)  # which only the next process reads
    sync = [sys.executable, "-m", "sweeps.cli", "mlflow-sync", str(tmp_path / "s")]
    done = subprocess.run(sync, check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("s: 4 trials, 4 runs written\n", "")
    rebuilt, began, figures = snapshot(tmp_path)
    assert rebuilt == live
    assert began == min(run["start"] for name, run in rebuilt.items() if name != "s")
    assert figures


@pytest.mark.slow
def test_sync_repairs_what_a_killed_controller_left(
    tmp_path, make_result, specs, mlflow_db, mlflow_here, blank_pictures
):
    """Catches a parent that is RUNNING for ever, half a run that passes for whole, and runs that are missing."""
    a, b, c, d = specs
    run_sweep(tmp_path, make_result, [(a, "ok", 1), (b, "ok", 1)])
    before, *_ = snapshot(tmp_path)
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("kvcomm").experiment_id
    one, two, parent = client.search_runs([experiment], order_by=["tags.`kvcomm.kind` DESC"])
    assert parent.data.tags["kvcomm.kind"] == "sweep"
    client.update_run(parent.info.run_id, status="RUNNING")
    client.update_run(one.info.run_id, status="RUNNING")
    client.delete_run(two.info.run_id)
    assert "s: 2 trials, 2 runs written" in kvcomm("mlflow-sync", tmp_path).stdout
    before["s"]["status"] = "KILLED"  # since two trials are left
    assert snapshot(tmp_path)[0] == before

    run_sweep(tmp_path, make_result, [(c, "ok", 1), (d, "ok", 1)])
    assert "s: 4 trials, 0 runs written" in kvcomm("mlflow-sync", tmp_path).stdout
    assert snapshot(tmp_path)[0]["s"]["status"] == "FINISHED"


@pytest.mark.slow
def test_a_sweep_that_failed_altogether(tmp_path, make_result, specs, mlflow_db, mlflow_here):
    """Catches a sync that fails for want of a figure, or of a sweep file."""
    run_sweep(tmp_path, make_result, [(specs[0], "error", 1)], end="FAILED")
    (tmp_path / "s" / "sweep.yaml").unlink()
    for _ in range(2):
        assert kvcomm("mlflow-sync", tmp_path, "--no-report").stdout == "s: 1 trials, 0 runs written\n"
    runs, _, figures = snapshot(tmp_path)
    assert (runs["s"]["status"], figures) == ("FAILED", False)


@pytest.mark.slow
def test_a_sweep_that_runs_is_left_alone(tmp_path, make_result, specs, mlflow_db, mlflow_here):
    """Catches two processes that write the same runs, and a parent that is ended while its sweep goes on."""
    run_sweep(tmp_path, make_result, [(specs[0], "ok", 1)])
    before = snapshot(tmp_path)
    writer = ResultsWriter(tmp_path, "s")
    done = kvcomm("mlflow-sync", tmp_path)
    writer.close()
    assert done.stdout == "s: 1 trials, in use by another kvcomm, which writes MLflow itself\n"
    assert snapshot(tmp_path) == before


@pytest.mark.slow
def test_bad_input_is_one_line(tmp_path, make_result):
    """Catches tracebacks of MLflow and SQLAlchemy."""
    done = kvcomm("mlflow-sync", tmp_path)
    assert (done.exit_code, done.stderr) == (2, f"kvcomm: {tmp_path} holds no results (no <sweep>/trials folder)\n")
    writer = ResultsWriter(tmp_path, "s")
    writer.write(make_result(TrialSpec(), sweep="s"))
    writer.close()
    (tmp_path / "file").write_text("in the way of a folder")
    done = kvcomm("mlflow-sync", tmp_path, "--tracking-uri", f"sqlite:///{tmp_path}/file/mlflow.db")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"kvcomm: MLflow at sqlite:///{tmp_path}/file/mlflow.db cannot be written: ")
    assert len(done.stderr.splitlines()) == 1
