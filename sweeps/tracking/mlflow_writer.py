"""The process that writes MLflow: it reads calls from its standard input and answers each with a line.

A separate process can be ended whatever MLflow waits for, and takes MLflow's threads and handlers with it.
``mlflow_process.py`` starts it and defines the calls. It ends when its standard input ends, in the middle of a call if
need be: its starter is done with it, or was killed.
"""

import json
import logging
import os
import sqlite3
import sys
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from harness.redaction import redact
from harness.results.parquet_files import StoreError
from harness.results.read_back import counted, read_attempt, read_rows
from kvcomm_core.config import one_line
from kvcomm_core.files.atomic_write import replacing
from sweeps.tracking.mlflow_runs import MlflowRuns, SweepEnd

_LONGEST = 300
"""The most characters of an error that are passed on."""


class Writer:
    """The calls, one method each. They raise whatever MLflow raises."""

    uri = ""
    """MLflow's URI. Empty before ``open``."""

    def open(self, uri: str, folder: str) -> dict[str, str]:
        """Connect to the runs of the sweep in ``folder``. Return each run's complete attempt by trial id."""
        self.uri, self._folder = uri, Path(folder)
        self._runs = open_runs(uri, self._folder)
        return self._runs.shown()

    def log(self, trial_id: str, attempt: int) -> None:
        """Read an attempt back from Parquet and write its run."""
        self._runs.log(read_attempt(self._folder, trial_id, attempt))

    def close(self, status: SweepEnd) -> None:
        """End the parent run, and log the contents of the sweep's folder."""
        close_runs(self._runs, self._folder, status)

    def has_figures(self) -> bool:
        """Return whether the parent run has figures."""
        return self._runs.has_figures()

    def log_figures(self, folder: str) -> None:
        """Add the files of ``folder`` to the parent run's figures."""
        self._runs.log_figures(Path(folder))


def open_runs(uri: str, folder: Path) -> MlflowRuns:
    """Open the runs of the sweep whose results are in ``folder``.

    Import MLflow so that it prints nothing. Raises whatever MLflow raises.
    """
    import mlflow  # noqa: F401 - its import resets the levels below
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    # The first connection makes the schema and logs each step.
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    event.listen(Engine, "connect", _without_waiting_for_the_disk)
    _make_schema(uri)
    began = min((row.started_at for row in read_rows(folder)), default=None)
    return MlflowRuns(uri, folder.parent, folder.name, began)


def close_runs(runs: MlflowRuns, folder: Path, status: SweepEnd) -> None:
    """End the parent run of the sweep whose results are in ``folder``."""
    paths = [path for name in ("sweep.yaml", "environment.json") if (path := folder / name).is_file()]
    runs.close(status, counted(read_rows(folder)), {path.name: path.read_text(encoding="utf-8") for path in paths})


def _make_schema(uri: str) -> None:
    """Make the database file whole or not at all: a half-made one could not be opened again."""
    scheme, _, name = uri.partition(":///")
    path = Path(name)
    if scheme != "sqlite" or not name or "?" in name or path.exists():
        return
    from mlflow import MlflowClient

    with replacing(path, path.parent / ".partial", synced=False) as new:
        MlflowClient(tracking_uri=f"sqlite:///{new}").search_experiments(max_results=1)


def _without_waiting_for_the_disk(connection: object, _record: object) -> None:
    """Turn off waiting for commits, which takes half of the time: a view that can be rebuilt may be lost."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


def main() -> None:
    """Answer calls until the input ends."""
    # Discard what libraries print: it is no answer, and may hold a password.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    calls: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_read, args=(calls,), daemon=True).start()
    writer = Writer()
    while True:
        print(json.dumps(_answer(writer, json.loads(calls.get()))), file=answers, flush=True)


def _read(calls: "SimpleQueue[str]") -> None:
    for line in sys.stdin:
        calls.put(line)
    os._exit(0)  # skips MLflow's own handlers, which may wait


def _answer(writer: Writer, call: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"value": getattr(writer, call["name"])(**call["arguments"])}
    except StoreError as error:
        return {"store_error": redact(str(error), writer.uri)}
    except ModuleNotFoundError as error:
        return {"error": f"{error.name} is not installed; MLflow needs it"}
    except Exception as error:  # noqa: BLE001 - errors of MLflow, SQLAlchemy and requests share no base
        return {"error": redact(one_line(error), writer.uri)[:_LONGEST]}


if __name__ == "__main__":
    main()
