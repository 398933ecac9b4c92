"""The trials that wait for a replica, and which of them a replica is given next.

Trials that are compared with each other (equal but for the method) form a group, and the replica that began a group
gets the rest of it: the arms then ran on the same hardware. So do the same shards of such trials, while the shards of
one trial are spread. Groups and the jobs in them are taken longest first, so that no long one is left for the end, when
the other replicas have nothing to do.

Every question costs time in the number of replicas and models, not of trials.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from harness.spec import TrialSpec

ModelKey = tuple[str, str]
"""Name and dtype of a model; empty for trials that need no weights."""


@dataclass(slots=True)
class Job:
    """A trial to be run, or one of its shards."""

    spec: TrialSpec
    attempt: int
    work: float = 0.0
    """How long it takes, in any unit that is the same for all."""
    tries: int = 1
    """Replicas that were given it in this run, the next one included."""
    shard: int = 0
    """From 0; a trial without shards is its own only one."""
    trial_id: str = field(init=False)
    group: str = field(init=False)
    """The same for the jobs that are compared with each other."""
    model: ModelKey = field(init=False)

    def __post_init__(self) -> None:
        # Hashing a spec takes some 50 us, and the controller asks for these again and again.
        self.trial_id = self.spec.trial_id
        self.group = f"{self.spec.dense_counterpart().trial_id}-{self.shard}"
        self.model = (self.spec.model, self.spec.dtype) if self.spec.workload.needs_weights else ("", "")

    @property
    def shard_to_run(self) -> int | None:
        """What a replica is to run of the trial: one shard, or None for the whole."""
        return self.shard if self.spec.shards > 1 else None

    def again(self, attempt: int) -> "Job":
        """The next try of the same, in a later attempt of the trial."""
        return Job(self.spec, attempt, self.work, self.tries + 1, self.shard)


@dataclass(slots=True)
class _Group:
    model: ModelKey
    jobs: deque[Job]
    """Longest first."""
    owner: int | None = None


class TrialQueue:
    """The jobs of one stage that wait."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._groups: dict[str, _Group] = {}
        self._length = 0
        for job in sorted(jobs, key=lambda job: -job.work):
            self._groups.setdefault(job.group, _Group(job.model, deque())).jobs.append(job)
            self._length += 1
        # In the order of their longest trial, which is the order in which they came about.
        self._fresh: dict[ModelKey, deque[_Group]] = {}
        self._begun: dict[str, _Group] = {}
        """Those with an owner and trials that wait."""
        for group in self._groups.values():
            self._fresh.setdefault(group.model, deque()).append(group)

    def __len__(self) -> int:
        return self._length

    def take(self, replica: int, model: ModelKey | None, elsewhere: Collection[ModelKey | None]) -> Job:
        """The next job of a replica that has loaded ``model``; the other replicas have those ``elsewhere``.

        One of its own groups, else of a group nobody has begun, else of any. Among these one of the model it has
        or, if it has none, of a model that no other replica has. The queue must not be empty.
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
        """A job that has to be done again comes before the others of its group, which stays with its owner."""
        group = self._groups[job.group]
        group.jobs.appendleft(job)
        self._begun[job.group] = group
        self._length += 1

    def drop(self, unwanted: Callable[[Job], bool]) -> list[Job]:
        """Take out the jobs that ``unwanted`` says yes to."""
        dropped = [job for group in self._groups.values() for job in group.jobs if unwanted(job)]
        for group in self._groups.values():
            group.jobs = deque(job for job in group.jobs if not unwanted(job))
        self._length -= len(dropped)
        self._begun = {name: group for name, group in self._begun.items() if group.jobs}
        fresh = {model: deque(group for group in groups if group.jobs) for model, groups in self._fresh.items()}
        self._fresh = {model: groups for model, groups in fresh.items() if groups}
        return dropped
