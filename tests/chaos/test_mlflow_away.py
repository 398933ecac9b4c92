"""An MLflow server that is not there, or does not answer."""

import io
import socket
import time
from functools import partial

import pytest
from made_up import make_result
from rich.console import Console
from silent_servers import silent_server

from harness.results.sweep_folder import read_attempts
from harness.spec import TrialSpec
from sweeps.language.sweep_spec import SweepSpec
from sweeps.plan.planning import make_plan
from sweeps.run.in_process import run_in_process
from sweeps.run.recorder import recording
from sweeps.tracking.background_writer import END_S, Tracking

__all__ = ["make_result"]

pytestmark = pytest.mark.slow


def test_a_sweep_goes_on_without_its_mlflow_server(tmp_path, make_result, monkeypatch):
    """Catches results lost with the server, a sweep that fails for it, and a warning for every trial."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # by default MLflow tries for minutes
        trials = tuple(TrialSpec(model="random:smollm2-135m", seed=seed) for seed in range(3))
        plan = make_plan(SweepSpec(name="s", trials=trials, text="name: s\n"), tmp_path)
        console = Console(file=io.StringIO(), width=500)
        run_in_process(
            plan,
            recording(plan, tmp_path, console),
            load=lambda name, dtype, weights: name,
            run=lambda spec, model, *, sweep, attempt, on_sample: make_result(spec, sweep=sweep, attempt=attempt),
        )
    assert [attempt.finished for attempt in read_attempts(tmp_path / "s").values()] == [1, 1, 1]
    assert console.file.getvalue().count("MLflow is left out from here on") == 1


def test_a_sweep_ends_although_its_mlflow_server_is_silent(tmp_path, make_result, monkeypatch):
    """Catches a sweep that is done in a second and ends minutes later, and a password in what it prints. It waits for
    5 s here, in place of the 25 s that a user waits."""
    assert END_S < 30
    monkeypatch.setattr("sweeps.run.recorder.Tracking", partial(Tracking, end_s=5))
    trials = tuple(TrialSpec(model="random:smollm2-135m", seed=seed) for seed in range(3))
    plan = make_plan(SweepSpec(name="s", trials=trials, text="name: s\n"), tmp_path)
    console = Console(file=io.StringIO(), width=500)
    with silent_server("accepts") as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:s3cr3t@127.0.0.1:{server.port}")
        began = time.monotonic()
        run_in_process(
            plan,
            recording(plan, tmp_path, console),
            load=lambda name, dtype, weights: name,
            run=lambda spec, model, *, sweep, attempt, on_sample: make_result(spec, sweep=sweep, attempt=attempt),
        )
        assert time.monotonic() - began < 5 + 5 + 15  # the wait, the end of the process, and a busy machine
    assert [attempt.finished for attempt in read_attempts(tmp_path / "s").values()] == [1, 1, 1]
    printed = console.file.getvalue()
    assert printed.count(f"`kvcomm mlflow-sync {tmp_path}` makes up for it") == 1
    assert "s3cr3t" not in printed
