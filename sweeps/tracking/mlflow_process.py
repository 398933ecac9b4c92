"""MLflow, written by a separate process: every wait for it is bounded, since the process can be killed.

A server that never answers or that trickles, or a locked database, may hold a thread for minutes, and Python does not
exit while such a thread works. The calls are those of ``sweeps.tracking.mlflow_runs.MlflowRuns``.
"""

import contextlib
import importlib.util
import json
import os
import selectors
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal, Self

from harness.results.parquet_files import StoreError

SweepEnd = Literal["FINISHED", "FAILED", "KILLED"]

CALL_S = 120.0
"""Seconds that one call may take. The runs of the largest trials take some ten seconds."""

_AT_ONCE = 20
"""Runs that one call writes."""

_TRACES_AT_ONCE = 50

_GRACE_S = 2.0

_BOUNDS = {
    # By default MLflow waits 120 s for each answer and retries seven times, with pauses.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}
"""Environment of the process, unless the user has set it."""


class TrackingError(Exception):
    """MLflow cannot be written. The message says where and why in one line."""


class MlflowError(Exception):
    """MLflow cannot be written. The message says why in one line, without passwords."""


class MlflowProcess:
    """The process, with one call at a time. Use as a context manager, or call ``end``."""

    def __init__(self, call_s: float = CALL_S) -> None:
        """Start the process. A call longer than ``call_s`` ends it. Raises ``MlflowError``."""
        if importlib.util.find_spec("mlflow") is None:
            raise MlflowError("mlflow is not installed")
        self._call_s = call_s
        root = str(Path(__file__).resolve().parents[2])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**_BOUNDS, **os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        environment.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        try:
            # It gets its own session: Ctrl-C is for the controller, which still has runs to write.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "sweeps.tracking.mlflow_writer"],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise MlflowError(f"its process cannot be started: {error}") from None
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        assert self._process.stdout is not None  # noqa: S101
        self._calls, self._answers = self._process.stdin, self._process.stdout

    def open(self, uri: str, folder: Path) -> dict[str, str]:
        """Connect to the runs of the sweep whose results are in ``folder``, and mark it as running.

        Return each trial's completely written attempt, by trial id. Raises ``MlflowError``, as all calls do, or
        ``StoreError``.
        """
        shown: dict[str, str] = self._call("open", uri=uri, folder=str(folder))
        return shown

    def log(self, trial_id: str, attempt: int) -> None:
        """Take in an attempt in Parquet. ``flush`` writes its run."""
        self._call("log", trial_id=trial_id, attempt=attempt)

    def flush(self) -> None:
        """Write the runs of all attempts taken in."""
        while self._call("flush", at_most=_AT_ONCE):
            pass

    def close(self, status: SweepEnd) -> None:
        """End the parent run, and log the contents of the sweep's folder."""
        self._call("close", status=status)

    def untraced(self, *, everything: bool) -> list[str]:
        """Return the trials whose traces are missing: none in a sweep of many items unless ``everything``."""
        trial_ids: list[str] = self._call("untraced", everything=everything)
        return trial_ids

    def trace(self, trial_id: str) -> None:
        """Write the traces of a trial's items."""
        start = 0
        while self._call("trace", trial_id=trial_id, start=start, at_most=_TRACES_AT_ONCE):
            start += _TRACES_AT_ONCE

    def artifacts(self) -> list[str]:
        """Return the names of the parent run's artifacts."""
        names: list[str] = self._call("artifacts")
        return names

    def log_figures(self, folder: Path) -> None:
        """Add the files of ``folder`` to the parent run's figures."""
        self._call("log_figures", folder=str(folder))

    def log_report(self, path: Path) -> None:
        """Add the file to the parent run's artifacts."""
        self._call("log_report", path=str(path))

    def end(self) -> None:
        """End the process, even in the middle of a call. Other threads may call this, and repeatedly."""
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for a disk, and nothing waits for it
            self._process.wait(_GRACE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._calls.close()
        self._answers.close()

    def _call(self, name: str, **arguments: object) -> Any:
        line = json.dumps({"name": name, "arguments": arguments}) + "\n"
        try:
            # Writing some hundred bytes to an empty pipe does not block; with one call at a time it is empty.
            os.write(self._calls.fileno(), line.encode())
            answer = json.loads(self._read_line())
        except (OSError, EOFError):
            self.end()
            raise MlflowError(f"its process ended, exit code {self._process.returncode}") from None
        if "store_error" in answer:
            raise StoreError(answer["store_error"])
        if "error" in answer:
            raise MlflowError(answer["error"])
        return answer["value"]

    def _read_line(self) -> bytes:
        pipe, deadline, read = self._answers.fileno(), time.monotonic() + self._call_s, b""
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while not read.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self.end()
                    raise MlflowError(f"no answer within {self._call_s:g} s")
                piece = os.read(pipe, 2**16)
                if not piece:
                    raise EOFError
                read += piece
        return read
