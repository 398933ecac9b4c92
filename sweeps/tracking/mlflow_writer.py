"""The process that writes MLflow: it reads calls from its standard input and answers each with a line.

A process of its own can be ended whatever MLflow waits for, and takes MLflow's threads and handlers with it.
``mlflow_process.py`` starts it and says what the calls are. It ends when its standard input does, in the middle of a
call if need be: whoever started it is done with it, or has been killed.
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
from sweeps.tracking.mlflow_runs import MlflowRuns, SweepEnd

_LONGEST = 300
"""Characters of an error that are passed on."""


class Writer:
    """The calls, each a method. They raise whatever MLflow raises."""

    uri = ""
    """Of MLflow; empty before ``open``."""

    def open(self, uri: str, folder: str) -> dict[str, str]:
        """Connect to the runs of the sweep in ``folder``; by trial id, the attempt that its run holds, all of it."""
        self.uri, self._folder = uri, Path(folder)
        self._runs = open_runs(uri, self._folder)
        return self._runs.shown()

    def log(self, trial_id: str, attempt: int) -> None:
        """Write the run of an attempt, read back from Parquet."""
        self._runs.log(read_attempt(self._folder, trial_id, attempt))

    def close(self, status: SweepEnd) -> None:
        """End the parent run, with what the sweep's folder holds."""
        close_runs(self._runs, self._folder, status)

    def has_figures(self) -> bool:
        """Whether the parent run has figures."""
        return self._runs.has_figures()

    def log_figures(self, folder: str) -> None:
        """Put the files of ``folder`` among the parent run's figures."""
        self._runs.log_figures(Path(folder))


def open_runs(uri: str, folder: Path) -> MlflowRuns:
    """The runs of the sweep whose results are in ``folder``.

    Imports MLflow so that it prints nothing. Raises whatever MLflow raises.
    """
    import mlflow  # noqa: F401 - importing it resets the levels below
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    # The first connection makes the schema and logs each step of it.
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
    """Make a database file under another name first: one whose making was cut short cannot be opened again."""
    scheme, _, name = uri.partition(":///")
    path = Path(name)
    if scheme != "sqlite" or not name or "?" in name or path.exists():
        return
    from mlflow import MlflowClient

    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    for left_over in path.parent.glob(f"{path.name}.partial-*"):
        left_over.unlink()
    MlflowClient(tracking_uri=f"sqlite:///{partial}").search_experiments(max_results=1)
    partial.replace(path)


def _without_waiting_for_the_disk(connection: object, _record: object) -> None:
    """A view that can be rebuilt need not survive a power cut, and waiting for each commit takes half of the time."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


def main() -> None:
    """Answer calls until there are no more."""
    # What libraries print goes nowhere: it is no answer, and may hold a password.
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
    os._exit(0)  # without MLflow's own handlers, which may wait


def _answer(writer: Writer, call: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"value": getattr(writer, call["name"])(**call["arguments"])}
    except StoreError as error:
        return {"store_error": redact(str(error), writer.uri)}
    except ModuleNotFoundError as error:
        return {"error": f"{error.name} is not installed; MLflow needs it"}
    except Exception as error:  # noqa: BLE001 - MLflow's own errors, SQLAlchemy's, requests': no common base
        return {"error": redact(one_line(error), writer.uri)[:_LONGEST]}


if __name__ == "__main__":
    main()
