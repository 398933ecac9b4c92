"""MLflow while a sweep runs: a view of the results, written by the controller alone. The truth is in Parquet.

A thread of its own reads each attempt back from Parquet and writes its run, since MLflow takes longer over a run than
a controller may spend on a trial. MLflow being absent or failing costs one warning and loses nothing;
``kvcomm mlflow-sync`` makes up for it.
"""

import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

from harness.mlflow_runs import MlflowRuns, SweepEnd
from harness.read_back import counted, read_result, read_rows
from harness.records import TrialRow

_LAST_WORDS_S = 10.0
"""How long a sweep that was interrupted waits for MLflow."""


def tracking_uri(results: Path) -> str:
    """``MLFLOW_TRACKING_URI`` if set, else a sqlite file in the results folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{results / 'mlflow.db'}"


def open_runs(uri: str, folder: Path) -> MlflowRuns:
    """The runs of the sweep whose results are in ``folder``.

    Imports MLflow so that it prints nothing, and reports nothing about its use.

    Raises whatever MLflow raises.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # By default MLflow asks a server that is away seven times, with pauses of minutes in all, and a sweep's end waits.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    import mlflow  # noqa: F401 - importing it resets the levels below
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    # The first connection makes the schema and logs each step of it.
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if not event.contains(Engine, "connect", _without_waiting_for_the_disk):
        event.listen(Engine, "connect", _without_waiting_for_the_disk)
    began = min((row.started_at for row in read_rows(folder)), default=None)
    return MlflowRuns(uri, folder.parent, folder.name, began)


def close_runs(runs: MlflowRuns, folder: Path, status: SweepEnd) -> None:
    """End the parent run of the sweep whose results are in ``folder``."""
    paths = [path for name in ("sweep.yaml", "environment.json") if (path := folder / name).is_file()]
    runs.close(status, counted(read_rows(folder)), {path.name: path.read_text(encoding="utf-8") for path in paths})


class Tracking:
    """The MLflow runs of one sweep. After its first failure it warns once and does nothing more."""

    def __init__(self, results: Path, sweep: str, warn: Callable[[str], None]) -> None:
        """Begin to connect. Never raises for MLflow's sake: see ``warn``, which is called from a thread."""
        self._warn, self._folder = warn, results / sweep
        self._rows: SimpleQueue[TrialRow | None] = SimpleQueue()
        self._status: SweepEnd = "FINISHED"
        self._thread = threading.Thread(target=self._guarded, name="mlflow", daemon=True)
        self._thread.start()

    def log(self, row: TrialRow) -> None:
        """An attempt is in Parquet: write its run, soon."""
        self._rows.put(row)

    def close(self, status: SweepEnd) -> None:
        """End the parent run, with what the sweep's folder holds; if ``KILLED``, without the runs not written yet."""
        self._status = status
        self._rows.put(None)
        self._thread.join(_LAST_WORDS_S if status == "KILLED" else None)

    def _guarded(self) -> None:
        try:
            self._write()
        except Exception as error:  # noqa: BLE001 - whatever ails MLflow, the sweep goes on
            reason = " ".join(str(error).split())[:200]
            self._warn(f"MLflow is left out from here on, results are in Parquet alike: {reason}")

    def _write(self) -> None:
        runs = open_runs(tracking_uri(self._folder.parent), self._folder)
        while (row := self._rows.get()) is not None and self._status != "KILLED":
            runs.log(read_result(self._folder, row))
        close_runs(runs, self._folder, self._status)


def _without_waiting_for_the_disk(connection: object, _record: object) -> None:
    """A view that can be rebuilt need not survive a power cut, and waiting for each commit takes half of the time."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")
