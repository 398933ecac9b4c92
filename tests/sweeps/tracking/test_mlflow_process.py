"""MLflow as a process: every wait for it ends, and so does the process that waited."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress

import psutil
import pytest
from silent_servers import silent_server

from harness.results.parquet_files import ResultsWriter
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
def what_waits(kind, folder):
    """The address of something that never answers."""
    if kind == "locked":
        with locked_database(folder) as uri:
            yield uri
    else:
        with silent_server(kind) as port:
            yield f"http://me:{SECRET}@127.0.0.1:{port}"


@pytest.mark.parametrize("kind", ["accepts", "headers", "trickles", "locked"])
def test_a_sweep_ends_although_mlflow_does_not(results, kind):
    """Catches a sweep's process that waits for MLflow: to connect, for its threads, or in its handlers at exit; a line
    that does not say what to do; and a password in it."""
    with what_waits(kind, results) as uri:
        done = subprocess.run(
            [sys.executable, "-c", SWEEP, str(results), "5"],
            env={**os.environ, "MLFLOW_TRACKING_URI": uri},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    said, seconds = done.stdout.splitlines()
    assert said.startswith("MLflow is left out from here on")
    assert f"`kvcomm mlflow-sync {results}`" in said
    assert float(seconds) < 12
    assert done.stderr == ""
    assert SECRET not in done.stdout


@pytest.mark.parametrize("kind", ["accepts", "trickles", "locked"])
def test_a_call_has_an_end(results, kind):
    """Catches a call that waits as long as its server, and a process that stays behind."""
    with what_waits(kind, results) as uri, MlflowProcess(call_s=5) as mlflow:
        began = time.monotonic()
        with pytest.raises(MlflowError, match="no answer within 5 s"):
            mlflow.open(uri, results / "s")
        assert time.monotonic() - began < 20
        assert mlflow._process.poll() is not None


def test_an_error_tells_no_password(results):
    """Catches the words of MLflow and SQLAlchemy, passed on with the address in them."""
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
    with silent_server("accepts") as port:
        command = [sys.executable, "-c", code, f"http://127.0.0.1:{port}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            writer = psutil.Process(pid)
            time.sleep(1)
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
