"""The process that writes to MLflow answers with an error when a call fails."""

from types import SimpleNamespace

import pytest

pytest.importorskip("mlflow")

from sweeps.tracking.mlflow_writer import Writer


def test_an_error_names_its_kind():
    """Catches a line that says only ``'no_reuse_reason'``, which is all the text that a ``KeyError`` has."""

    def fail():
        raise KeyError("no_reuse_reason")

    writer = Writer()
    writer.runs = SimpleNamespace(flush=fail)
    assert writer.answer("flush", {}) == {"error": "KeyError: 'no_reuse_reason'"}
