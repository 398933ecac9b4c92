"""A sweep's runs on a real MLflow server, whose database is PostgreSQL."""

import dataclasses

import pytest
from mlflow_server import mlflow_server
from postgres_server import postgres_server

from harness.results.results_writer import ResultsWriter
from harness.spec import TrialSpec
from sweeps.tracking.background_writer import Tracking
from sweeps.tracking.mlflow_sync import mlflow_sync

pytestmark = pytest.mark.slow

MODEL = "org/name@v1.0"
SPECS = [TrialSpec(agents=2, model=MODEL), TrialSpec(agents=2, model=MODEL, method="kvcomm")]


def test_a_sweep_on_a_server_with_postgresql(tmp_path, make_result, monkeypatch, blank_pictures):
    """Catches what sqlite forgives: text with NUL, a value longer than its column, a wrong type, an id that is written
    twice; and what only a server does: refusing a request of MLflow's newer kinds."""
    mlflow = pytest.importorskip("mlflow")
    (tmp_path / "artifacts").mkdir()
    with postgres_server() as store, mlflow_server(store, tmp_path / "artifacts") as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        writer = ResultsWriter(tmp_path, "s")
        writer.write_text("sweep.yaml", f"name: s\nmodel: {MODEL}\nagents: 2\ngrid: {{method: [kvcomm, dense]}}\n")
        tracking = Tracking(tmp_path, "s", pytest.fail, end_s=300)
        for spec in reversed(SPECS):  # the dense one comes last
            result = make_result(spec, sweep="s", samples=6)
            turns = [dataclasses.replace(turn, output_text="a\x00b") for turn in result.turns]
            row = dataclasses.replace(result.trial, weights_digest="0" * 64)
            result = dataclasses.replace(result, trial=row, turns=turns)
            writer.write(result)
            tracking.log(result.trial)
        tracking.close("FINISHED")
        writer.close()
        assert [(one.trials, one.written) for one in mlflow_sync(tmp_path, address)] == [(2, 0)]

        client = mlflow.MlflowClient(tracking_uri=address)
        experiment = client.get_experiment_by_name("kvcomm").experiment_id
        runs = {run.info.run_name: run for run in client.search_runs([experiment])}
        assert set(runs) == {"s", "dense", "kvcomm"}
        kvcomm = runs["kvcomm"]
        assert kvcomm.data.metrics["speedup"] == pytest.approx(2.0)
        assert "speedup" not in runs["dense"].data.metrics
        assert "kvcomm run" in runs["s"].data.tags["mlflow.note.content"]
        [model] = client.search_logged_models([experiment])
        children = [runs["dense"], kvcomm]  # a search leaves their models out
        assert {one.model_id for run in children for one in client.get_run(run.info.run_id).inputs.model_inputs} == {
            model.model_id
        }
        traces = client.search_traces(locations=[experiment], run_id=kvcomm.info.run_id)
        assert len(traces) == 6
        names = [span.name for span in traces[0].data.spans]
        assert names[0].startswith("kvcomm, item ")
        assert names.count("decode") == 2
        assert {file.path for file in client.list_artifacts(runs["s"].info.run_id)} >= {"figures", "report.html"}
