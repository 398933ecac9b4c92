"""MLflow's pages: served on loopback, and gone without a trace."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from functools import partial

import psutil
import pytest
from ray_head import free_port
from typer.testing import CliRunner

from harness.spec import TrialSpec
from harness.store import ResultsWriter
from sweeps.cli import app


@pytest.fixture
def results(tmp_path, make_result, mlflow_db, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    writer = ResultsWriter(tmp_path, "s")
    writer.write(make_result(TrialSpec(), sweep="s"))
    writer.close()
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("ask", [signal.SIGINT, signal.SIGTERM])
def test_the_pages_come_and_go(results, ask):
    """Catches a server open to the network, helpers that outlive it, and a traceback on Ctrl-C."""
    port = free_port()
    command = [sys.executable, "-m", "sweeps.cli", "ui", str(results), "--port", str(port)]
    # Where the tests run in the background, SIGINT is ignored, and children inherit that.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, preexec_fn=heed) as ui:
        try:
            assert ui.stdout is not None
            assert ui.stdout.readline() == "s: 1 trials, 1 runs written\n"
            page = f"http://127.0.0.1:{port}/#/experiments/1/runs?workflowType=machine_learning"
            assert ui.stdout.readline() == f"{page} (Ctrl-C ends it)\n"
            with urllib.request.urlopen(page, timeout=30) as answer:
                assert b"MLflow" in answer.read()
            served_by = psutil.Process(ui.pid).children(recursive=True)
            listening = {
                (connection.laddr.ip, connection.laddr.port)
                for process in served_by
                for connection in process.net_connections("tcp")
                if connection.status == psutil.CONN_LISTEN
            }
            assert listening == {("127.0.0.1", port)}
        finally:
            os.kill(ui.pid, ask)
            try:
                _, said = ui.communicate(timeout=60)
            finally:
                ui.terminate()
    assert (ui.returncode, said) == (0, "")
    assert not [process for process in served_by if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def test_a_port_in_use_is_one_line(results, monkeypatch):
    """Catches a server that takes another port than the one that was named, or fails with a page of log."""
    monkeypatch.setattr("sweeps.cli.mlflow_commands._sync", lambda results, uri, console: "sqlite:///mlflow.db")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = CliRunner().invoke(app, ["ui", str(results), "--port", str(port)])
    assert done.exit_code == 2
    assert done.stderr.startswith(f"kvcomm: --port is {port}; allowed: a free port, and this one is not")
    assert len(done.stderr.splitlines()) == 1
