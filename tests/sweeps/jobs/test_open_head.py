"""Heads that take commands from anybody are recognised, and the user's terminal says so."""

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import ray_head
from typer.testing import CliRunner

from sweeps.cli import app
from sweeps.jobs.open_head import is_open

ROOT = Path(__file__).parents[3]


@contextmanager
def dashboard(status):
    """The URL of a dashboard that answers a stranger with this status."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            known = self.path == "/api/version"
            self.send_response(status if known else 404)
            self.end_headers()
            self.wfile.write(
                json.dumps({"version": "4", "ray_version": "2", "ray_commit": "0"}).encode() if known else b""
            )

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(("status", "expected"), [(200, True), (401, False), (403, False), (404, None), (500, None)])
def test_the_answer_to_a_stranger(status, expected):
    """Catches an open head that passes for closed, and something else that passes for an open head."""
    with dashboard(status) as url:
        assert is_open(url) is expected
        assert is_open(f"{url}/") is expected


def test_nobody_answers():
    """Catches a traceback."""
    assert is_open(f"http://127.0.0.1:{ray_head.free_port()}") is None


def test_a_token_for_an_open_head_is_refused(tmp_path, monkeypatch):
    """Catches a job that dies on the head with a message in its log alone, as Ray there finds no token."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with dashboard(200) as url:
        done = CliRunner().invoke(app, ["submit", "--attach", "raysubmit_1", "--address", url])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"kvcomm: {url} asks for no token, but --auth is token; allowed: --auth disabled\n"


@pytest.mark.slow
def test_an_open_head_is_said_to_be(tmp_path):
    """Catches an open head about which only the job's log says something."""
    with dashboard(200) as url:
        command = ["submit", "--attach", "raysubmit_1", "--auth", "disabled", "--address", url]
        done = subprocess.run(
            [sys.executable, "-m", "sweeps.cli", *command],  # Ray reads the mode once per process
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
        )
    line = f"open:   {url} asks for no token: anybody who reaches it may run commands there, and read what --env sends"
    assert done.stdout.splitlines() == [line]
    assert done.returncode == 2, "it has no such job"
