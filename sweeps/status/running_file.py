"""The snapshot that a running sweep writes for other shells: ``RESULTS/<sweep>/running.json``.

The sweep replaces the file at most once a second while it runs, and removes it when it ends. A leftover file belongs to
a controller that was killed.
"""

import json
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import psutil
from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from harness.results.parquet_files import StoreError
from harness.results.results_writer import RUNNING, ResultsWriter
from kvcomm_core.config import shown
from kvcomm_core.files.regular_files import read_regular
from sweeps.wording import duration

_MAX_BYTES = 10_000_000
_SILENCE_S = 60.0
"""A controller on another machine counts as gone after this many seconds without news."""


@dataclass(frozen=True, slots=True)
class Working:
    """A replica and its current trial."""

    __pydantic_config__ = {"allow_inf_nan": False}  # noqa: RUF012 - read by pydantic, not a field

    replica: int
    trial_id: str
    trial: str
    """The trial's name, made of what sets it apart from the sweep's other trials."""
    seconds: float
    """Seconds since it was given the trial."""
    samples_done: int
    samples_total: int | None
    """Total samples of the trial. None before the first one is done."""
    loaded: bool = True
    """Whether the replica has the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state of a sweep's run at one moment, counted in trials."""

    __pydantic_config__ = {"allow_inf_nan": False}  # noqa: RUF012 - read by pydantic, not a field

    sweep: str
    host: str
    pid: Annotated[int, Field(ge=1, lt=2**31)]
    process_started_s: float
    """Seconds since 1970. A process id alone may have passed to another process."""
    started_at: AwareDatetime
    updated_at: AwareDatetime
    n_to_run: int
    """Trials of this run, whatever their outcome."""
    n_by_status: dict[str, int]
    """Number of ended trials, keyed by ``status``."""
    n_running: int
    samples_done: int
    """Samples done in this run, including those of lost attempts."""
    trials_per_minute: float | None
    """Rate of ended trials. None before the first has ended."""
    seconds_left: float | None
    """Estimated seconds left. None while no trial's time is known."""
    replicas_ready: int
    replicas_wanted: int
    working: tuple[Working, ...]
    last_failures: tuple[str, ...]
    """The last failures, one line each, the latest last."""

    @property
    def n_waiting(self) -> int:
        """Number of trials of this run that have not begun."""
        return self.n_to_run - sum(self.n_by_status.values()) - self.n_running

    def lines(self) -> list[str]:
        """Return the state for people: the counts, the times, and a line per replica at work."""
        counts = "".join(f"{count} {status}, " for status, count in self.n_by_status.items())
        rate = "" if self.trials_per_minute is None else f", {self.trials_per_minute:.1f} trials/min"
        left = "time left not known yet" if self.seconds_left is None else f"{duration(self.seconds_left)} left"
        lines = [
            f"{self.n_to_run} trials in this run: {counts}{self.n_running} running, {self.n_waiting} to go",
            f"{duration((self.updated_at - self.started_at).total_seconds())} so far{rate}, {left}; "
            f"{self.replicas_ready} of {self.replicas_wanted} replicas ready",
        ]
        for one in self.working:
            samples = f"sample {one.samples_done}/{one.samples_total}" if one.samples_total else "starting"
            done = samples if one.loaded else "loading"
            lines.append(f"replica {one.replica}: {one.trial}, {done}, for {duration(one.seconds)}")
        return lines


class RunningFile:
    """Writes each snapshot it is called with."""

    def __init__(self, writer: ResultsWriter, warn: Callable[[str], None]) -> None:
        self._writer, self._warn, self._works = writer, warn, True

    def __call__(self, snapshot: Snapshot) -> None:
        """Replace the file. If that fails, warn once and stop writing: no result depends on it."""
        if self._works:
            try:
                self._writer.write_running(json.dumps(asdict(snapshot), default=str))
            except StoreError as error:
                self._works = False
                self._warn(f"kvcomm status will not see this run: {error}")


def read_running(folder: Path) -> Snapshot | None:
    """Return the last snapshot in ``folder``, or None if there is none. Raises ``StoreError`` if the file is torn."""
    path = folder / RUNNING
    try:
        return TypeAdapter(Snapshot).validate_json(read_regular(path, _MAX_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        reason = _first(error) if isinstance(error, ValidationError) else error.strerror
        raise StoreError(f"{path} cannot be read: {reason}; delete it if no kvcomm run is at work there") from None


def _first(error: ValidationError) -> str:
    """Return the first mistake: field, value, what is wrong."""
    mistake = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in mistake["loc"])
    return " ".join(f"{field or 'content'} is {shown(mistake['input'])}: {mistake['msg']}".split())


def is_alive(snapshot: Snapshot, now: datetime) -> bool:
    """Return whether the controller lives: its process exists or, on another machine, its last snapshot is recent."""
    if snapshot.host == socket.gethostname():
        try:
            process = psutil.Process(snapshot.pid)
            same = abs(process.create_time() - snapshot.process_started_s) < 1
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False
    return (now - snapshot.updated_at).total_seconds() < _SILENCE_S
