"""MLflow as a process: every wait for it ends, and so does the process that waited."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import psutil
import pytest
from silent_servers import silent_server

from harness.results.results_writer import ResultsWriter
from harness.spec import TrialSpec
from sweeps.tracking.mlflow_process import MlflowError, MlflowProcess

pytest.importorskip("mlflow")
pytestmark = pytest.mark.slow

SECRET = "s3cr3t-W0rd"

SWEEP = """
import sys, time
from pathlib import Path
from sweeps.tracking.background_writer import Tracking
tracking = Tracking(Path(sys.argv[1]), "s", print, end_s=float(sys.argv[2]))
input()
began = time.monotonic()
tracking.close("FINISHED")
print(time.monotonic() - began)
"""


@pytest.fixture
def results(tmp_path, make_result):
    writer = ResultsWriter(tmp_path, "s")
    writer.write(make_result(TrialSpec(), sweep="s"))
    writer.close()
    return tmp_path


@contextmanager
def locked_database(folder):
    path = folder / "locked.db"
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute("CREATE TABLE something (x)")
        connection.execute("BEGIN EXCLUSIVE")
        yield f"sqlite:///{path}"
        connection.execute("ROLLBACK")
    connection.close()


@contextmanager
def what_waits(folder):
    """The addresses of all that never answers, by kind; and what is set once the servers were asked."""
    with ExitStack() as stack:
        servers = {kind: stack.enter_context(silent_server(kind)) for kind in ("accepts", "headers", "trickles")}
        uris = {kind: f"http://me:{SECRET}@127.0.0.1:{server.port}" for kind, server in servers.items()}
        uris["locked"] = stack.enter_context(locked_database(folder))
        yield uris, [server.asked for server in servers.values()]


def test_a_sweep_ends_although_mlflow_does_not(results):
    """Catches a sweep's process that waits for MLflow: to connect, for its threads, or in its handlers at exit; a line
    that does not say what to do; and a password in it. The sweeps end once MLflow waits in them, all at once."""
    command = [sys.executable, "-c", SWEEP, str(results), "3"]
    pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
    with what_waits(results) as (uris, asked), ExitStack() as stack:
        sweeps = {
            kind: stack.enter_context(
                subprocess.Popen(command, env={**os.environ, "MLFLOW_TRACKING_URI": uri}, text=True, **pipes)
            )
            for kind, uri in uris.items()
        }
        for one in asked:
            one.wait(60)
        ended = {kind: sweep.communicate("end\n", timeout=60) for kind, sweep in sweeps.items()}
    for kind, (printed, errors) in ended.items():
        said, seconds = printed.splitlines()
        assert said.startswith("MLflow is left out from here on"), kind
        assert f"`kvcomm mlflow-sync {results}`" in said
        assert float(seconds) < 10, kind
        assert errors == ""
        assert SECRET not in printed
        assert sweeps[kind].returncode == 0


def test_a_call_has_an_end(results):
    """Catches a call that waits as long as its server, and a process that stays behind."""

    def call(uri):
        with MlflowProcess(call_s=120) as mlflow:
            with pytest.raises(MlflowError, match="foo"):
                mlflow.open("foo://host", results / "s")  # which imports MLflow, before the seconds count
            mlflow._call_s = 3
            began = time.monotonic()
            with pytest.raises(MlflowError, match="no answer within 3 s"):
                mlflow.open(uri, results / "s")
            assert time.monotonic() - began < 20
            assert mlflow._process.poll() is not None

    with what_waits(results) as (uris, asked), ThreadPoolExecutor() as together:
        calls = [together.submit(call, uri) for uri in uris.values()]
        for one in calls:
            one.result()
    assert all(one.is_set() for one in asked)


def test_an_error_tells_no_password(results, monkeypatch):
    """Catches the words of MLflow and SQLAlchemy, passed on with the address in them."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # before each of them, MLflow waits for seconds
    with MlflowProcess() as mlflow:
        for uri in (
            f"foo://me:{SECRET}@host/x",
            f"http://me:{SECRET}@127.0.0.1:1",
            f"postgresql://me:{SECRET}@/x y",
            f"postgresql+nothing://h/d?password={SECRET}",
            f"databricks-uc://{SECRET}@x",
        ):
            with pytest.raises(MlflowError) as caught:
                mlflow.open(uri, results / "s")
            assert SECRET not in str(caught.value)
            assert "\n" not in str(caught.value)


def test_it_ends_with_its_parent(results):
    """Catches a process that goes on after its controller was killed."""
    code = (
        "import os, sys; from sweeps.tracking.mlflow_process import MlflowProcess\n"
        "from pathlib import Path; import threading, time\n"
        "mlflow = MlflowProcess(); print(mlflow._process.pid, flush=True)\n"
        f"mlflow.open(sys.argv[1], Path({str(results / 's')!r}))"
    )
    with silent_server("accepts") as server:
        command = [sys.executable, "-c", code, f"http://127.0.0.1:{server.port}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            writer = psutil.Process(pid)
            server.asked.wait(60)
            parent.kill()
        psutil.wait_procs([writer], timeout=20)
        assert not writer.is_running() or writer.status() == psutil.STATUS_ZOMBIE


def test_a_database_cut_short_is_no_obstacle(results):
    """Catches a schema made in part, by a process that was killed meanwhile, which MLflow refuses ever after."""
    path = results / "mlflow.db"
    with MlflowProcess() as mlflow:
        refused = threading.Thread(target=_open_in_vain, args=(mlflow, path, results / "s"))
        refused.start()
        deadline = time.monotonic() + 120
        while not any(_is_half_made(file) for file in results.glob("mlflow.db*")):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        mlflow.end()
        refused.join()
    with MlflowProcess() as mlflow:
        assert mlflow.open(f"sqlite:///{path}", results / "s") == {}
    assert [file.name for file in results.glob("mlflow.db*")] == ["mlflow.db"]


def _is_half_made(file):
    """Whether some tables are there; all of them take 700 KB."""
    with suppress(FileNotFoundError):
        return file.stat().st_size >= 200_000
    return False


def _open_in_vain(mlflow, path, folder):
    with suppress(MlflowError):
        mlflow.open(f"sqlite:///{path}", folder)
