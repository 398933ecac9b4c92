"""No password in what leaves: the display, rows, errors of commands, what submit prints."""

import io
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from rich.console import Console
from typer.testing import CliRunner

from harness.environment import capture_environment
from harness.results.parquet_files import ResultsWriter, StoreError
from harness.results.summary import failed_result
from harness.results.uri_mirror import mirror_of
from harness.spec import TrialSpec
from sweeps.cli import app
from sweeps.language.sweep_spec import SweepSpec
from sweeps.plan.planning import Plan
from sweeps.status.progress import Progress
from sweeps.submit import Auth, Cluster, Job

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
    cluster._address, cluster._auth = f"http://me:{SECRET}@head:8265", Auth.DISABLED
    cluster._client = SimpleNamespace(submit_job=lambda **job: sent.append(job) or "raysubmit_1")
    sweep = SweepSpec(name="s", trials=(TrialSpec(),), text="name: s\n")
    cluster.submit(Job(sweep, f"s3://key:{SECRET}@bucket/results", URI), said.append)
    assert SECRET not in "\n".join(said)
    assert [line for line in said if line.startswith("note:   who may list the cluster's jobs sees the password")]
    said.clear()
    cluster.submit(Job(sweep, "s3://bucket/results", "http://host/x"), said.append)
    assert not [line for line in said if line.startswith("note:")]
