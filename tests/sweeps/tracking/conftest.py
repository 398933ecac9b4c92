"""MLflow written in this process, for tests of what is written."""

import pytest

from sweeps.tracking import background_writer, mlflow_sync
from sweeps.tracking.mlflow_process import MlflowProcess
from sweeps.tracking.mlflow_writer import Writer


class MlflowHere(MlflowProcess):
    """The same calls, answered by the same writer. A process of its own imports MLflow for seconds, and has its tests
    in ``test_mlflow_process.py``."""

    def __init__(self, call_s=0.0):
        self._writer = Writer()

    def _call(self, name, **arguments):
        return getattr(self._writer, name)(**arguments)

    def end(self):
        pass

    def __exit__(self, kind, error, trace):
        pass


@pytest.fixture
def mlflow_here(monkeypatch):
    """Makes sweeps and `kvcomm mlflow-sync` write MLflow without a process of its own."""
    for module in (background_writer, mlflow_sync):
        monkeypatch.setattr(module, "MlflowProcess", MlflowHere)
