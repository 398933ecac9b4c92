"""What a running sweep says of itself, for other shells: ``RESULTS/<sweep>/running.json``.

The file is replaced at most once a second while the sweep runs and removed when it ends. One that is left belongs to
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

from harness.regular_files import read_regular
from harness.results.parquet_files import RUNNING, ResultsWriter, StoreError
from kvcomm_core.config import shown

_MAX_BYTES = 10_000_000
_SILENCE_S = 60.0
"""A controller on another machine that has said nothing for so long is taken for gone."""


@dataclass(frozen=True, slots=True)
class Working:
    """A replica and the trial it runs."""

    __pydantic_config__ = {"allow_inf_nan": False}  # noqa: RUF012 - read by pydantic, not a field

    replica: int
    trial_id: str
    trial: str
    """Named by what sets it apart from the others of the sweep."""
    seconds: float
    """Since it was given the trial."""
    samples_done: int
    samples_total: int | None
    """None before the first one is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One run of a sweep at one moment, counted in trials."""

    __pydantic_config__ = {"allow_inf_nan": False}  # noqa: RUF012 - read by pydantic, not a field

    sweep: str
    host: str
    pid: Annotated[int, Field(ge=1, lt=2**31)]
    process_started_s: float
    """Seconds since 1970; a process id alone may have gone to another process."""
    started_at: AwareDatetime
    updated_at: AwareDatetime
    n_to_run: int
    """In this run, whatever has become of them."""
    n_by_status: dict[str, int]
    """Those that have ended, by ``status``."""
    n_running: int
    samples_done: int
    """In this run, those of lost attempts included."""
    trials_per_minute: float | None
    """None before the first has ended."""
    seconds_left: float | None
    """None while nothing is known of how long trials take."""
    replicas_ready: int
    replicas_wanted: int
    working: tuple[Working, ...]
    last_failures: tuple[str, ...]
    """One line each, the latest last."""

    @property
    def n_ended(self) -> int:
        """Those that are not run again in this run."""
        return sum(self.n_by_status.values())


class RunningFile:
    """Writes the snapshots it is called with."""

    def __init__(self, writer: ResultsWriter, warn: Callable[[str], None]) -> None:
        self._writer, self._warn, self._works = writer, warn, True

    def __call__(self, snapshot: Snapshot) -> None:
        """Replace the file. If that fails, warn once and leave it be: nothing of the results depends on it."""
        if self._works:
            try:
                self._writer.write_running(json.dumps(asdict(snapshot), default=str))
            except StoreError as error:
                self._works = False
                self._warn(f"kvcomm status will not see this run: {error}")


def read_running(folder: Path) -> Snapshot | None:
    """The last snapshot of the sweep in ``folder``, None if there is none. Raises ``StoreError`` if it is torn."""
    path = folder / RUNNING
    try:
        return TypeAdapter(Snapshot).validate_json(read_regular(path, _MAX_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        reason = _first(error) if isinstance(error, ValidationError) else error.strerror
        raise StoreError(f"{path} cannot be read: {reason}; delete it if no kvcomm run is at work there") from None


def _first(error: ValidationError) -> str:
    """The first of its mistakes: field, value, what is wrong."""
    mistake = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in mistake["loc"])
    return " ".join(f"{field or 'content'} is {shown(mistake['input'])}: {mistake['msg']}".split())


def is_alive(snapshot: Snapshot, now: datetime) -> bool:
    """Whether the controller is still there: its process, or, if it is on another machine, its last word of late."""
    if snapshot.host == socket.gethostname():
        try:
            process = psutil.Process(snapshot.pid)
            same = abs(process.create_time() - snapshot.process_started_s) < 1
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False
    return (now - snapshot.updated_at).total_seconds() < _SILENCE_S
