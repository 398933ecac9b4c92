"""The writing of MLflow while a sweep runs. MLflow is a view, written by the controller alone; Parquet is the record.

A thread passes each attempt to a separate process, which reads it back from Parquet and writes its run, since MLflow
takes longer for a run than a controller may spend on a trial. If MLflow is absent, failing or silent, this costs one
warning and less than 30 s at the sweep's end. Nothing is lost: ``kvcomm mlflow-sync`` writes the missing runs.
"""

import os
import shlex
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

from harness.results.parquet_files import StoreError
from harness.results.trial_result import TrialRow
from kvcomm_core.config import one_line
from sweeps.tracking.mlflow_process import MlflowError, MlflowProcess, SweepEnd

END_S = 25.0
"""Seconds that a finished sweep waits for MLflow in total: 30 s less the time to end its process."""

_LAST_WORDS_S = 10.0
"""The same for an interrupted sweep."""

_CLOSING_S = 10.0
"""Seconds of those that are kept for ending the runs. ``kvcomm mlflow-sync`` writes the traces that would take them."""

_GRACE_S = 2.0


def tracking_uri(results: Path) -> str:
    """Return ``MLFLOW_TRACKING_URI`` if set, else the URI of a sqlite file in the results folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{results / 'mlflow.db'}"


class Tracking:
    """The MLflow runs of one sweep. After the first failure it warns once and stops writing."""

    def __init__(self, results: Path, sweep: str, warn: Callable[[str], None], *, end_s: float | None = None) -> None:
        """Begin to connect. MLflow's errors never raise: they go to ``warn``, which a thread calls.

        ``end_s`` limits the seconds that ``close`` may take, by default to ``END_S``.
        """
        self._warn, self._folder, self._end_s = warn, results / sweep, END_S if end_s is None else end_s
        self._rows: SimpleQueue[TrialRow | None] = SimpleQueue()
        self._status: SweepEnd = "FINISHED"
        self._no_traces_from = float("inf")
        """When ``time.monotonic`` says this, the sweep has waited long enough."""
        self._left_out = threading.Lock()
        """Acquired for good by the thread that reports why MLflow is left out."""
        self._thread: threading.Thread | None = None
        try:
            self._process = MlflowProcess()
        except MlflowError as error:
            self._leave_out(str(error))
        else:
            self._thread = threading.Thread(target=self._guarded, name="mlflow", daemon=True)
            self._thread.start()

    def log(self, row: TrialRow) -> None:
        """Queue the run of an attempt that is in Parquet."""
        self._rows.put(row)

    def close(self, status: SweepEnd) -> None:
        """End the parent run, and log the sweep's folder. If ``KILLED``, drop the runs not yet written."""
        if self._thread is None:
            return
        self._status = status
        patience = min(_LAST_WORDS_S, self._end_s) if status == "KILLED" else self._end_s
        self._no_traces_from = time.monotonic() + patience - _CLOSING_S
        self._rows.put(None)
        self._thread.join(patience)
        if self._thread.is_alive():
            self._leave_out(f"it was not done {patience:g} s after the sweep")
            self._process.end()
            self._thread.join(_GRACE_S)

    def _guarded(self) -> None:
        try:
            with self._process:
                self._write(self._process)
        except (MlflowError, StoreError) as error:
            self._leave_out(str(error))
        except Exception as error:  # noqa: BLE001 - whatever fails in MLflow, the sweep goes on
            self._leave_out(one_line(repr(error)))

    def _write(self, process: MlflowProcess) -> None:
        process.open(tracking_uri(self._folder.parent), self._folder)
        while (row := self._rows.get()) is not None and self._status != "KILLED":
            process.log(row.trial_id, row.attempt)
            if self._rows.empty():  # else a trial's numbers are computed once for all that ended meanwhile
                process.flush()
        if self._status != "KILLED":
            process.flush()
            for trial_id in process.untraced(everything=False):
                if time.monotonic() >= self._no_traces_from:
                    break
                process.trace(trial_id)
        process.close(self._status)

    def _leave_out(self, reason: str) -> None:
        if self._left_out.acquire(blocking=False):
            command = shlex.join(["kvcomm", "mlflow-sync", str(self._folder.parent)])
            self._warn(
                f"MLflow is left out from here on, results are in Parquet alike, and `{command}` makes up for it: "
                f"{reason}"
            )
