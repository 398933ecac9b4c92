"""No password in what leaves: the display, rows, errors of commands, what submit prints."""

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from typer.testing import CliRunner

from harness.environment import capture_environment
from harness.results.parquet_files import StoreError
from harness.results.results_writer import ResultsWriter
from harness.results.summary import failed_result
from harness.results.uri_mirror import mirror_of
from harness.secrets import SECRETS_FILE
from harness.spec import TrialSpec
from sweeps.cli import app
from sweeps.jobs.job import Job
from sweeps.language.sweep_spec import SweepSpec
from sweeps.plan.planning import Plan
from sweeps.status.progress import Progress
from sweeps.submit import Auth, Cluster

SECRET = "s3cr3t-W0rd"
URI = f"http://me:{SECRET}@host/x?token={SECRET}"


def test_the_display():
    """Catches a warning or a traceback's last line, shown with an address in it."""
    console = Console(file=io.StringIO(), width=200)
    plan = Plan(SweepSpec(name="s", trials=()), (), (), (), {}, {}, {})
    Progress(plan, console).say(f"it failed at {URI}")
    assert console.file.getvalue() == "it failed at http://***@host/x?token=***\n"


def test_a_failed_row():
    """Catches a traceback kept for years with an address in it."""
    result = failed_result(
        TrialSpec(),
        "error",
        f"Traceback\n  get({URI!r})\nValueError: {URI}",
        sweep="s",
        attempt=1,
        started_at=datetime.now(UTC),
        environment=capture_environment(),
    )
    assert SECRET not in repr(result.trial)
    assert (
        result.trial.error == "Traceback\n  get('http://***@host/x?token=***')\nValueError: http://***@host/x?token=***"
    )


def test_results_at_a_uri():
    """Catches the keys of a bucket in the error about it."""
    with pytest.raises(StoreError) as caught:
        mirror_of(f"nowhere://key:{SECRET}@bucket/results")
    assert SECRET not in str(caught.value)


@pytest.mark.slow
def test_a_tracking_server_that_is_away(tmp_path, make_result):
    """Catches the words of MLflow in the one line of a command."""
    writer = ResultsWriter(tmp_path, "s")
    writer.write(make_result(TrialSpec(), sweep="s"))
    writer.close()
    uri = f"http://me:{SECRET}@127.0.0.1:1"
    done = CliRunner(env={"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}).invoke(
        app, ["mlflow-sync", str(tmp_path), "--tracking-uri", uri]
    )
    assert done.exit_code == 2
    assert done.stderr.startswith("kvcomm: MLflow at http://***@127.0.0.1:1 cannot be written: ")
    assert SECRET not in done.output
    assert len(done.stderr.splitlines()) == 1


def test_what_submit_prints():
    """Catches the tracking URI among what is said of a job, and a job that shows it to others without a word."""
    sent, said = [], []
    cluster = Cluster.__new__(Cluster)
    cluster._address, cluster._auth, cluster._is_open = f"http://me:{SECRET}@head:8265", Auth.DISABLED, True
    cluster._client = SimpleNamespace(submit_job=lambda **job: sent.append(job) or "raysubmit_1")
    sweep = SweepSpec(name="s", trials=(TrialSpec(),), text="name: s\n")
    cluster.submit(Job(sweep, f"s3://key:{SECRET}@bucket/results", URI), said.append)
    assert SECRET not in "\n".join(said)
    assert [line for line in said if line.startswith("note:   who may list the cluster's jobs sees the password")]
    assert SECRET not in str(cluster.warning)
    said.clear()
    cluster.submit(Job(sweep, "s3://bucket/results", "http://host/x"), said.append)
    assert not [line for line in said if line.startswith("note:")]


def test_what_submit_sends_hidden():
    """Catches a variable of --env in what Ray shows of a job, and one of --runtime-env that shows without a word."""
    packed, said = [], []

    def send(*, runtime_env, **job):
        packed.append(json.loads(Path(runtime_env["working_dir"], SECRETS_FILE).read_text()))
        packed.append({**job, **runtime_env})
        return "raysubmit_1"

    cluster = Cluster.__new__(Cluster)
    cluster._address, cluster._auth, cluster._is_open = "http://head:8265", Auth.TOKEN, False
    cluster._client = SimpleNamespace(submit_job=send)
    sweep = SweepSpec(name="s", trials=(TrialSpec(),), text="name: s\n")
    theirs = {"pip": ["einops"], "env_vars": {"HF_HOME": "/models", "OUR_API_KEY": "x"}}
    job = Job(sweep, "s3://bucket/results", runtime_env=theirs, secrets={"HF_TOKEN": SECRET})
    assert SECRET not in repr(job)
    cluster.submit(job, said.append)
    sent, shown = packed
    assert sent == {"HF_TOKEN": SECRET}
    assert SECRET not in repr(shown)
    assert shown["pip"] == ["einops"]
    assert shown["env_vars"]["HF_HOME"] == "/models"
    assert shown["env_vars"]["RAY_AUTH_MODE"] == "token"
    assert SECRET not in "\n".join(said)
    assert [line for line in said if line.startswith("note:")] == [
        "note:   who may list the cluster's jobs sees OUR_API_KEY; --env NAME sends it hidden"
    ]
