"""The trials that wait for a replica, and the choice of a replica's next one.

Trials that are compared with each other (equal but for the method) form a group, and the replica that began a group
gets the rest of it, so that the arms run on the same hardware. The same holds for equal shards of such trials, while
the shards of one trial are spread. Groups and the jobs in them are taken longest first, so that no long job remains at
the end, when the other replicas have nothing to do.

Every query costs time in the number of replicas and models, not of trials.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from harness.spec import TrialSpec

ModelKey = tuple[str, str, str]
"""Name, dtype and weights of a model. All are empty for trials that need no weights."""


@dataclass(slots=True)
class Job:
    """A trial to run, or one of its shards."""

    spec: TrialSpec
    attempt: int
    work: float = 0.0
    """Length of the job, in any unit common to all jobs."""
    tries: int = 1
    """Number of replicas that were given it in this run, the next one included."""
    shard: int = 0
    """Number of the shard, from 0. An unsharded trial is its own only shard."""
    trial_id: str = field(init=False)
    group: str = field(init=False)
    """A name shared by the jobs that are compared with each other."""
    model: ModelKey = field(init=False)

    def __post_init__(self) -> None:
        # Hashing a spec takes some 50 us, and the controller needs these repeatedly.
        self.trial_id = self.spec.trial_id
        self.group = f"{self.spec.dense_counterpart().trial_id}-{self.shard}"
        spec = self.spec
        self.model = (spec.model, spec.dtype, spec.weights) if spec.workload.needs_weights else ("", "", "")

    @property
    def shard_to_run(self) -> int | None:
        """The shard that a replica runs. None for the whole trial."""
        return self.shard if self.spec.shards > 1 else None

    def again(self, attempt: int) -> "Job":
        """Return the next try of the same job, in a later attempt of the trial."""
        return Job(self.spec, attempt, self.work, self.tries + 1, self.shard)


@dataclass(slots=True)
class _Group:
    model: ModelKey
    jobs: deque[Job]
    """Longest first."""
    owner: int | None = None


class TrialQueue:
    """The waiting jobs of one stage."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._groups: dict[str, _Group] = {}
        self._length = 0
        for job in sorted(jobs, key=lambda job: -job.work):
            self._groups.setdefault(job.group, _Group(job.model, deque())).jobs.append(job)
            self._length += 1
        # Ordered by their longest trial, which is the order of their creation.
        self._fresh: dict[ModelKey, deque[_Group]] = {}
        self._begun: dict[str, _Group] = {}
        """Groups with an owner and waiting trials."""
        for group in self._groups.values():
            self._fresh.setdefault(group.model, deque()).append(group)

    def __len__(self) -> int:
        return self._length

    def take(self, replica: int, model: ModelKey | None, elsewhere: Collection[ModelKey | None]) -> Job:
        """Remove and return the next job for a replica that has loaded ``model``.

        ``elsewhere`` holds the models of the other replicas. The job comes from the replica's own groups, else from a
        group that nobody has begun, else from any. Among these, jobs of the loaded model come first or, without one,
        jobs of a model that no other replica has. The queue must not be empty.
        """

        def reluctance(group: _Group) -> tuple[bool, float]:
            strange = group.model != model if model else group.model in elsewhere
            return strange, -group.jobs[0].work

        fresh = [groups[0] for groups in self._fresh.values()]
        own = [group for group in self._begun.values() if group.owner == replica]
        group = min(own or fresh or self._begun.values(), key=reluctance)
        job = group.jobs.popleft()
        self._length -= 1
        if group.owner is None:
            group.owner = replica
            waiting = self._fresh[group.model]
            waiting.popleft()
            if not waiting:
                del self._fresh[group.model]
            self._begun[job.group] = group
        if not group.jobs:
            del self._begun[job.group]
        return job

    def put_back(self, job: Job) -> None:
        """Put a job to be repeated before the others of its group, which keeps its owner."""
        group = self._groups[job.group]
        group.jobs.appendleft(job)
        self._begun[job.group] = group
        self._length += 1

    def drop(self, unwanted: Callable[[Job], bool]) -> list[Job]:
        """Remove and return the jobs for which ``unwanted`` is true."""
        dropped = [job for group in self._groups.values() for job in group.jobs if unwanted(job)]
        for group in self._groups.values():
            group.jobs = deque(job for job in group.jobs if not unwanted(job))
        self._length -= len(dropped)
        self._begun = {name: group for name, group in self._begun.items() if group.jobs}
        fresh = {model: deque(group for group in groups if group.jobs) for model, groups in self._fresh.items()}
        self._fresh = {model: groups for model, groups in fresh.items() if groups}
        return dropped
