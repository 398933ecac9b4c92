"""The recorder of results: first to disk, then to MLflow and the display. Only the controller's process has one."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from harness.environment import capture_environment
from harness.results.checkpoint import remove_checkpoint
from harness.results.damaged_files import set_aside
from harness.results.parquet_files import StoreError
from harness.results.read_back import read_rows
from harness.results.results_writer import ResultsWriter, RowsError
from harness.results.summary import failed_result
from harness.results.sweep_folder import read_attempts
from harness.results.trial_result import Status, TrialResult
from harness.results.uri_mirror import Mirror
from harness.spec import TrialSpec
from sweeps.plan.planning import Plan
from sweeps.run.results_copy import Copy
from sweeps.status.progress import Progress
from sweeps.status.running_file import RunningFile
from sweeps.tracking.background_writer import Tracking
from sweeps.wording import counted, say


@dataclass(frozen=True, slots=True)
class Recorder:
    """Records the attempts of one sweep."""

    sweep: str
    writer: ResultsWriter
    tracking: Tracking
    progress: Progress
    copy: Copy | None = None

    def record(self, spec: TrialSpec, result: TrialResult, *, began: datetime, replica: int | None) -> None:
        """Record the last attempt of a trial, which started at ``began``.

        An attempt whose rows cannot be written is recorded as failed, with the reason. Raises ``StoreError`` only for
        errors of the disk.
        """
        try:
            self.writer.write(result)
        except RowsError as error:
            reason = f"the rows of the trial cannot be written: {error}"
            attempt = result.trial.attempt
            self.record_failure(spec, "error", reason, attempt=attempt, started_at=began, replica=replica)
        else:
            self._tell(result, replica, final=True)

    def _tell(self, result: TrialResult, replica: int | None, *, final: bool) -> None:
        """Tell MLflow, the display and the copy that an attempt is on disk."""
        if result.trial.status == "ok":
            remove_checkpoint(self.writer.folder, result.trial.trial_id)
        for message in result.messages:
            self.progress.say(message)
        if self.copy:
            self.copy.attempt(result.trial)
        self.tracking.log(result.trial)
        self.progress.attempt_ended(replica, result, final=final)

    def tick(self) -> None:
        """Do what is due without a trial's end; the controller calls it a few times a second."""
        self.writer.enter_if_due()
        self.progress.tick()

    def take_over(self, plan: Plan) -> None:
        """Copy the trials that other sweeps have finished."""
        numbers: defaultdict[Path, dict[str, int]] = defaultdict(dict)
        for trial_id, finished in plan.taken.items():
            numbers[finished.folder][f"{trial_id}-{finished.attempt}"] = plan.next_attempt[trial_id]
        for folder, own in numbers.items():
            self.writer.take_over(folder, own)
        for row in read_rows(self.writer.folder) if plan.taken else []:
            if row.trial_id in plan.taken and row.attempt == plan.next_attempt[row.trial_id]:
                if self.copy:
                    self.copy.attempt(row)
                self.tracking.log(row)
        for folder, own in numbers.items():
            self.progress.say(f"taken from {folder.name}, not run again: {counted(len(own), 'trial')}")

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
        """Record an attempt that has only a trial row. ``final`` if the trial is not tried again in this run."""
        result = failed_result(
            spec,
            status,
            error,
            sweep=self.sweep,
            attempt=attempt,
            started_at=started_at or datetime.now(UTC),
            environment=capture_environment(),
        )
        try:
            self.writer.write(result)
        except RowsError as error_of_row:
            raise StoreError(f"{self.writer.folder}: a failed trial cannot be written: {error_of_row}") from None
        self._tell(result, replica, final=final)


@contextmanager
def recording(plan: Plan, results: Path, console: Console, mirror: Mirror | None = None) -> Iterator[Recorder]:
    """Open the results folder, its copy, MLflow and the display for one run of a sweep.

    Set damaged files aside. Raises ``StoreError`` if the folder or its copy cannot be written, or if another run holds
    the folder or held it since the plan was made.
    """
    writer = ResultsWriter(results, plan.sweep.name)
    try:
        for file in plan.damaged:
            if file.path.exists():
                say(console, f"damaged: {file.path}: {file.reason}; moved to {set_aside(writer.folder, file)}")
                if mirror:
                    mirror.move_aside(plan.sweep.name, file)
        _check_nothing_has_changed(plan, writer.folder)
        for trial_id in (*(trial.trial_id for trial in plan.done), *plan.taken):  # a killed run may have left one
            remove_checkpoint(writer.folder, trial_id)
        writer.write_text("sweep.yaml", plan.sweep.text)
        writer.write_text("environment.json", capture_environment().to_json())
        with Progress(plan, console) as progress:
            progress.add_watcher(RunningFile(writer, progress.say))
            copy = Copy(mirror, plan.sweep.name, progress.say) if mirror else None
            tracking = Tracking(results, plan.sweep.name, warn=progress.say)
            try:
                recorder = Recorder(plan.sweep.name, writer, tracking, progress, copy)
                recorder.take_over(plan)
                yield recorder
            except BaseException:
                if copy:
                    copy.break_off()
                tracking.close("KILLED")
                raise
            writer.enter()
            tracking.close("FAILED" if progress.failed else "FINISHED")
            if copy:
                copy.finish()
    finally:
        writer.close()


def _check_nothing_has_changed(plan: Plan, folder: Path) -> None:
    """Check that no run ended between our plan and our lock: we would repeat its trials."""
    attempts = read_attempts(folder)
    for trial_id, number in plan.next_attempt.items():
        before = attempts.get(trial_id)
        if number != (before.last + 1 if before else 1):
            raise StoreError(f"results folder {folder} has changed while this run started; start it again")
