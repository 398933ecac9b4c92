"""Fixtures shared by the tests of sweeps, and with those of the other floors."""

import shutil

import pytest
from made_up import make_result

import sweeps.run.in_process
from harness.replica import Replica

__all__ = ["make_result"]


@pytest.fixture(scope="session")
def empty_mlflow_db(tmp_path_factory):
    """A store of MLflow without runs. Making its tables takes seconds, and tests of a store that is new do it."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def mlflow_db(empty_mlflow_db, tmp_path):
    """An empty store where that of results in ``tmp_path`` is looked for."""
    return shutil.copy(empty_mlflow_db, tmp_path / "mlflow.db")


@pytest.fixture
def blank_pictures(monkeypatch):
    """The files of figures hold no picture: painting takes seconds, and the tests of figures look at what is painted.
    Their numbers, the CSV files, are real."""
    from analysis.figures import saving  # only here, as matplotlib takes a second to import

    monkeypatch.setattr(saving, "encoded", lambda drawn, kind: b"")


@pytest.fixture
def made_up(monkeypatch, make_result):
    """Lets `run --in-process` run made-up trials; gives the list of those that ran. Agents 3 fail if asked to."""
    ran = []

    class MadeUpReplica(Replica):
        failing = False

        def __init__(self, *, cpus, load, run, report, exclusive, allow_unsafe_code, checkpoints):
            super().__init__(cpus=cpus, load=lambda name, dtype: name, run=self.made_up, report=report)

        def made_up(self, spec, model, *, sweep, attempt, on_sample):
            ran.append(spec)
            failed = MadeUpReplica.failing and spec.agents == 3
            return make_result(spec, sweep=sweep, attempt=attempt, status="error" if failed else "ok")

    monkeypatch.setattr(sweeps.run.in_process, "Replica", MadeUpReplica)
    return MadeUpReplica, ran
