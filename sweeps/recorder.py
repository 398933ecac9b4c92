"""Where a result goes: to disk first, then to MLflow and to the display. Only the controller's process has one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from harness.environment import capture_environment
from harness.records import Status, TrialResult
from harness.rows import failed_result
from harness.spec import TrialSpec
from harness.store import ResultsWriter
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

    def record(self, spec: TrialSpec, result: TrialResult, *, replica: int | None, final: bool = True) -> None:
        """Keep one attempt; ``final`` if the trial is not tried again in this run."""
        self.writer.write(result)
        self.tracking.log(spec, result)
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
        self.record(spec, result, replica=replica, final=final)


@contextmanager
def recording(plan: Plan, results: Path, console: Console) -> Iterator[Recorder]:
    """Open the results folder, MLflow and the display for one run of a sweep.

    Raises ``StoreError`` if the folder cannot be written or another run holds it.
    """
    writer = ResultsWriter(results, plan.sweep.name)
    try:
        writer.write_text("sweep.yaml", plan.sweep.text)
        writer.write_text("environment.json", capture_environment().to_json())
        with Progress(plan, console) as progress:
            tracking = Tracking(results, plan.sweep.name, warn=progress.say)
            try:
                yield Recorder(plan.sweep.name, writer, tracking, progress)
            except BaseException:
                tracking.close("KILLED")
                raise
            tracking.close("FAILED" if progress.failed else "FINISHED")
    finally:
        writer.close()
