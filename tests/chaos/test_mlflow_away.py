"""An MLflow server that is not there."""

import io
import socket

import pytest
from made_up import make_result
from rich.console import Console

from harness.spec import TrialSpec
from harness.store import read_attempts
from sweeps.in_process import run_in_process
from sweeps.plan import make_plan
from sweeps.recorder import recording
from sweeps.spec import SweepSpec

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
            load=lambda name, dtype: name,
            run=lambda spec, model, *, sweep, attempt, on_sample: make_result(spec, sweep=sweep, attempt=attempt),
        )
    assert [attempt.finished for attempt in read_attempts(tmp_path / "s").values()] == [1, 1, 1]
    assert console.file.getvalue().count("MLflow is left out from here on") == 1
