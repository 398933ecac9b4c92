"""The merging of shards: one result per trial, under one attempt.

A trial has one job per shard, each on any free replica. When the last job is done, the results are merged and the trial
ends. When one job fails for good, the trial fails, whatever the others do.
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
    """The current attempt. Each lost shard ends one, and the others continue in the next."""
    results: dict[int, TrialResult] = field(default_factory=dict)
    """Results, keyed by shard."""


class Gathering:
    """The unfinished trials of a stage."""

    def __init__(self) -> None:
        self._trials: dict[str, _Trial] = {}

    def jobs(self, trials: Iterable[tuple[TrialSpec, int, float]]) -> Iterator[Job]:
        """Yield the jobs of trials. Each trial comes with the number of its next attempt and its work."""
        for spec, attempt, work in trials:
            self._trials[spec.trial_id] = _Trial(spec, attempt)
            for shard in range(spec.shards):
                yield Job(spec, attempt, work / spec.shards, shard=shard)

    def has_ended(self, job: Job) -> bool:
        """Return whether the trial is over, so that the job's outcome no longer matters."""
        return job.trial_id not in self._trials

    def attempt(self, job: Job) -> int:
        """Return the trial's current attempt, which may have advanced since the job was given out."""
        return self._trials[job.trial_id].attempt

    def again(self, job: Job) -> Job:
        """Return the job that replaces a lost one. The attempt it belonged to has ended."""
        trial = self._trials[job.trial_id]
        trial.attempt += 1
        return job.again(trial.attempt)

    def end(self, job: Job) -> None:
        """End the trial after a failure that no replica could report."""
        del self._trials[job.trial_id]

    def add(self, job: Job, result: TrialResult) -> TrialResult | None:
        """Add a job's result. Return the trial's result if this one completes it.

        Raises whatever the merge raises for an unsuitable result; the trial has then not ended.
        """
        trial = self._trials[job.trial_id]
        trial.results[job.shard] = result
        if result.trial.status == "ok" and len(trial.results) < trial.spec.shards:
            return None
        whole = merge_shards(trial.spec, trial.results, trial.attempt)
        self.end(job)
        return whole


def not_a_result(error: Exception) -> str:
    """Return why a trial failed whose result made ``Gathering.add`` raise ``error``."""
    return f"the result of the trial cannot be used: {type(error).__name__}: {error}"
