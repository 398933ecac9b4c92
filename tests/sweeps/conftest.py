"""Fixtures shared by the tests of sweeps, and with those of the other floors."""

import shutil

import pytest
from made_up import make_result

import sweeps.run.in_process
from harness.replica import Replica

__all__ = ["make_result"]


@pytest.fixture
def mlflow_db(empty_mlflow_db, tmp_path):
    """An empty store where that of results in ``tmp_path`` is looked for."""
    return shutil.copy(empty_mlflow_db, tmp_path / "mlflow.db")


@pytest.fixture
def made_up(monkeypatch, make_result):
    """Lets `run --in-process` run made-up trials; gives the list of those that ran. Agents 3 fail if asked to."""
    ran = []

    class MadeUpReplica(Replica):
        failing = False

        def __init__(self, *, cpus, load, run, report, exclusive, allow_unsafe_code, checkpoints):
            super().__init__(cpus=cpus, load=lambda name, dtype, weights: name, run=self.made_up, report=report)

        def made_up(self, spec, model, *, sweep, attempt, on_sample):
            ran.append(spec)
            failed = MadeUpReplica.failing and spec.agents == 3
            return make_result(spec, sweep=sweep, attempt=attempt, status="error" if failed else "ok")

    monkeypatch.setattr(sweeps.run.in_process, "Replica", MadeUpReplica)
    return MadeUpReplica, ran
