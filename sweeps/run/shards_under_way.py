"""What the jobs of a stage come to: one result per trial, from its shards, under one attempt.

A trial has a job for each of its shards, on whatever replicas are free. When the last one is done, their results are
merged and the trial has ended; when one fails for good, so has the trial, whatever the others do.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from harness.results.trial_result import TrialResult
from harness.spec import TrialSpec
from harness.trials.shards import merge_shards
from sweeps.run.trial_queue import Job


@dataclass(slots=True)
class _Trial:
    spec: TrialSpec
    attempt: int
    """The one under way. Each shard that is lost ends one, and the others go on in the next."""
    results: dict[int, TrialResult] = field(default_factory=dict)
    """By shard."""


class Gathering:
    """The trials of a stage that have not ended."""

    def __init__(self) -> None:
        self._trials: dict[str, _Trial] = {}

    def jobs(self, trials: Iterable[tuple[TrialSpec, int, float]]) -> Iterator[Job]:
        """The jobs of trials, each given with the number of its next attempt and its work."""
        for spec, attempt, work in trials:
            self._trials[spec.trial_id] = _Trial(spec, attempt)
            for shard in range(spec.shards):
                yield Job(spec, attempt, work / spec.shards, shard=shard)

    def has_ended(self, job: Job) -> bool:
        """Whether the trial is over: what this job of it comes to is of no use."""
        return job.trial_id not in self._trials

    def attempt(self, job: Job) -> int:
        """The attempt of the trial that is under way, which may have gone on since the job was given out."""
        return self._trials[job.trial_id].attempt

    def again(self, job: Job) -> Job:
        """The job after a lost one; the attempt that it was part of has ended."""
        trial = self._trials[job.trial_id]
        trial.attempt += 1
        return job.again(trial.attempt)

    def end(self, job: Job) -> None:
        """The trial is over, by a failure that no replica could report."""
        del self._trials[job.trial_id]

    def add(self, job: Job, result: TrialResult) -> TrialResult | None:
        """The trial's result if this one of the job ends it.

        Raises whatever a result raises that cannot be merged with the others; the trial has not ended then.
        """
        trial = self._trials[job.trial_id]
        trial.results[job.shard] = result
        if result.trial.status == "ok" and len(trial.results) < trial.spec.shards:
            return None
        whole = merge_shards(trial.spec, trial.results, trial.attempt)
        self.end(job)
        return whole


def not_a_result(error: Exception) -> str:
    """Why a trial failed over whose result ``Gathering.add`` has raised ``error``."""
    return f"the result of the trial cannot be used: {type(error).__name__}: {error}"
