"""MLflow's pages: served on loopback, and gone without a trace."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

import psutil
import pytest
from ray_head import free_port
from typer.testing import CliRunner

import sweeps
from harness.results.results_writer import ResultsWriter
from harness.spec import TrialSpec
from sweeps.cli import app


@pytest.fixture
def results(tmp_path, make_result, mlflow_db, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    writer = ResultsWriter(tmp_path, "s")
    writer.write(make_result(TrialSpec(), sweep="s"))
    writer.close()
    return tmp_path


# Where the tests run in the background, SIGINT is ignored, and children inherit that.
HEED = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


@pytest.mark.slow
def test_the_pages_come_and_go(results):
    """Catches a server open to the network or to the pages of other sites, helpers that outlive it, and a traceback on
    Ctrl-C."""
    port = free_port()
    command = [sys.executable, "-m", "sweeps.cli", "ui", str(results), "--port", str(port)]
    # As somebody may have them who runs a server for others.
    open_doors = {
        "MLFLOW_SERVER_ALLOWED_HOSTS": "*",
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "*",
        "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true",
    }
    with subprocess.Popen(command, **PIPES, text=True, preexec_fn=HEED, env={**os.environ, **open_doors}) as ui:
        try:
            assert ui.stdout is not None
            assert ui.stdout.readline() == "s: 1 trials, 1 runs written\n"
            page = f"http://127.0.0.1:{port}/#/experiments/1/runs?workflowType=machine_learning"
            page += "&compareRunsMode=CHART&viewStateShareKey=kvcomm-s"
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
            search, create = "experiments/search?max_results=1", "experiments/create"
            assert status_of(port, search) == status_of(port, search, Host=f"localhost:{port}") == 200
            assert status_of(port, create, name="ours", Origin=f"http://127.0.0.1:{port}") == 200
            for host in ("evil.example", f"evil.example:{port}", f"192.168.0.1:{port}", "127.0.0.1", "localhost:1"):
                assert status_of(port, search, Host=host) == status_of(port, create, name="x", Host=host) == 403
            for origin in (
                "http://evil.example",
                f"http://evil.example:{port}",
                "null",
                f"https://127.0.0.1.evil:{port}",
            ):
                assert status_of(port, create, name="x", Origin=origin) == 403
        finally:
            os.kill(ui.pid, signal.SIGINT)
            try:
                _, said = ui.communicate(timeout=60)
            finally:
                ui.terminate()
    assert (ui.returncode, said) == (0, "")
    assert not still_running(served_by)


def still_running(processes):
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


QUICK_SERVER = """
import http.server, subprocess, sys

class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"experiment": {"experiment_id": "7"}}')

helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Answers).serve_forever()
"""
"""Stands for ``mlflow server``, which takes many seconds to start. It has a helper, too."""


@pytest.mark.slow
@pytest.mark.parametrize("ask", [signal.SIGINT, signal.SIGTERM])
def test_each_signal_ends_server_and_helpers(tmp_path, ask):
    """Catches a signal that leaves the server running or shows as a traceback."""
    package = tmp_path / "mlflow"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(QUICK_SERVER)
    port = free_port()
    code = "from sweeps.tracking.mlflow_ui import serve_ui\n"
    code += f"serve_ui('sqlite:///x', {port}, lambda text: print(text, flush=True))"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(sweeps.__file__).parents[1]}"}
    with subprocess.Popen([sys.executable, "-c", code], **PIPES, text=True, preexec_fn=HEED, env=environment) as ui:
        try:
            assert f"http://127.0.0.1:{port}/#/experiments/7/runs" in ui.stdout.readline()
            served_by = psutil.Process(ui.pid).children(recursive=True)
            assert len(served_by) == 2
        finally:
            os.kill(ui.pid, ask)
            _, said = ui.communicate(timeout=60)
    assert (ui.returncode, said) == (0, "")
    assert not still_running(served_by)


def status_of(port, path, name=None, **headers):
    """The status of an answer of MLflow's API, to the request of a page in a browser; with a ``name`` a POST."""
    body = None if name is None else json.dumps({"name": name}).encode()
    url = f"http://127.0.0.1:{port}/ajax-api/2.0/mlflow/{path}"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.slow
def test_a_port_in_use_is_one_line(results, monkeypatch):
    """Catches a server that takes another port than the one that was named, or fails with a page of log."""
    monkeypatch.setattr("sweeps.cli.mlflow_commands._sync", lambda *_, **__: "sqlite:///mlflow.db")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = CliRunner().invoke(app, ["ui", str(results), "--port", str(port)])
    assert done.exit_code == 2
    assert done.stderr.startswith(f"kvcomm: --port is {port}; allowed: a free port, and this one is not")
    assert len(done.stderr.splitlines()) == 1
