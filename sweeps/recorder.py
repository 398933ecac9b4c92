"""Where a result goes: to disk first, then to MLflow and to the display. Only the controller's process has one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from harness.environment import capture_environment
from harness.records import Status, TrialResult, TrialRow
from harness.rows import failed_result
from harness.spec import TrialSpec
from harness.storage import Mirror
from harness.store import ResultsWriter, StoreError
from harness.tracking import Tracking
from sweeps.plan import Plan
from sweeps.progress import Progress


@dataclass(frozen=True, slots=True)
class Recorder:
    """Records the attempts of one sweep."""

    sweep: str
    writer: ResultsWriter
    tracking: Tracking
    progress: Progress
    copy: "Copy | None" = None

    def record(self, result: TrialResult, *, replica: int | None, final: bool = True) -> None:
        """Keep one attempt; ``final`` if the trial is not tried again in this run."""
        self.writer.write(result)
        if self.copy:
            self.copy.attempt(result.trial)
        self.tracking.log(result.trial)
        self.progress.attempt_ended(replica, result, final=final)

    def record_failure(
        self,
        spec: TrialSpec,
        status: Status,
        error: str,
        *,
        attempt: int,
        started_at: datetime | None = None,
        replica: int | None = None,
        final: bool = True,
    ) -> None:
        """Keep an attempt that no replica could report on itself."""
        result = failed_result(
            spec,
            status,
            error,
            sweep=self.sweep,
            attempt=attempt,
            started_at=started_at or datetime.now(UTC),
            environment=capture_environment(),
        )
        self.record(result, replica=replica, final=final)


class Copy:
    """The copy at a URI during a sweep: one that falls behind is caught up with later, and at the latest at the end."""

    def __init__(self, mirror: Mirror, sweep: str, warn: Callable[[str], None]) -> None:
        """Copy what an earlier run has left behind. Raises ``StoreError``."""
        self._mirror, self._sweep, self._warn = mirror, sweep, warn
        self._behind = False
        mirror.push(sweep)

    def attempt(self, row: TrialRow) -> None:
        """An attempt is on disk."""
        try:
            if self._behind:
                self._mirror.push(self._sweep)
            else:
                self._mirror.push_attempt(self._sweep, row.trial_id, row.attempt)
        except StoreError as error:
            if not self._behind:
                self._warn(f"{error}; the sweep goes on in {self._mirror.folder}")
            self._behind = True
        else:
            self._behind = False

    def catch_up(self) -> None:
        """Copy what is missing. Raises ``StoreError``."""
        if self._behind:
            self._mirror.push(self._sweep)


@contextmanager
def recording(plan: Plan, results: Path, console: Console, mirror: Mirror | None = None) -> Iterator[Recorder]:
    """Open the results folder, its copy, MLflow and the display for one run of a sweep.

    Raises ``StoreError`` if one of the first two cannot be written, or if another run holds the folder.
    """
    writer = ResultsWriter(results, plan.sweep.name)
    try:
        writer.write_text("sweep.yaml", plan.sweep.text)
        writer.write_text("environment.json", capture_environment().to_json())
        with Progress(plan, console) as progress:
            copy = Copy(mirror, plan.sweep.name, progress.say) if mirror else None
            tracking = Tracking(results, plan.sweep.name, warn=progress.say)
            try:
                yield Recorder(plan.sweep.name, writer, tracking, progress, copy)
            except BaseException:
                tracking.close("KILLED")
                raise
            tracking.close("FAILED" if progress.failed else "FINISHED")
            if copy:
                copy.catch_up()
    finally:
        writer.close()
