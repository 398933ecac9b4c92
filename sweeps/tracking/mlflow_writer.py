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
import tempfile
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from harness.redaction import redact
from harness.results.parquet_files import StoreError
from kvcomm_core.config import one_line
from sweeps.tracking.mlflow_runs import MlflowRuns

_LONGEST = 300
"""The most characters of an error that are passed on."""


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
    return MlflowRuns(uri, folder)


def _make_schema(uri: str) -> None:
    """Make the database file whole or not at all: a half-made one could not be opened again."""
    scheme, _, name = uri.partition(":///")
    path = Path(name)
    if scheme != "sqlite" or not name or "?" in name or path.exists():
        return
    from mlflow import MlflowClient

    scratch = path.parent / ".partial"
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        new = Path(folder) / path.name
        MlflowClient(tracking_uri=f"sqlite:///{new}").search_experiments(max_results=1)
        try:
            path.hardlink_to(new)
        except FileExistsError:  # another sweep made it meanwhile, and may have it open
            pass
        except OSError:  # a file system without links
            new.replace(path)


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
        print(json.dumps(writer.answer(**json.loads(calls.get()))), file=answers, flush=True)


def _read(calls: "SimpleQueue[str]") -> None:
    for line in sys.stdin:
        calls.put(line)
    os._exit(0)  # skips MLflow's own handlers, which may wait


class Writer:
    """The runs of one sweep, once ``open`` has been called."""

    uri = ""
    runs: MlflowRuns

    def answer(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call ``open``, or another method of the runs, and return its value or what went wrong."""
        try:
            if name == "open":
                self.uri = arguments["uri"]
                self.runs = open_runs(self.uri, Path(arguments["folder"]))
                return {"value": self.runs.shown()}
            return {"value": getattr(self.runs, name)(**arguments)}
        except StoreError as error:
            return {"store_error": redact(str(error), self.uri)}
        except ModuleNotFoundError as error:
            return {"error": f"{error.name} is not installed; MLflow needs it"}
        except Exception as error:  # noqa: BLE001 - errors of MLflow, SQLAlchemy and requests share no base
            return {"error": redact(one_line(f"{type(error).__name__}: {error}"), self.uri)[:_LONGEST]}


if __name__ == "__main__":
    main()
