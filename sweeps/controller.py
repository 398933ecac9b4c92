"""A sweep on Ray: warm replica actors, and one loop that hands them trials and takes their results.

The loop is our own because the trials have state the pools of ``ray.util`` do not know: a replica that has the
model loaded is worth more than a free one, and the trials that are compared with each other (equal but for the
method) belong on the same replica. A trial may be run again safely, so one whose replica died is tried again.

Exclusive trials come last, one after another, on one replica that takes every CPU of its node.
"""

import logging
import os
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from harness.environment import usable_cores
from harness.records import Status
from harness.replica import Board, LoadModel, ModelLoadError, Replica, RunTrial
from harness.spec import TrialSpec
from sweeps.plan import Plan
from sweeps.recorder import Recorder
from sweeps.spec import SweepSpec
from sweeps.sweep_file import SweepError

MAX_TRIES = 3
"""A trial whose replica dies is begun again until this many replicas have died under it."""

_POLL_S = 0.5
_OBJECT_STORE_BYTES = 128 * 1024**2  # results are small; KV never travels


@dataclass(slots=True)
class _Job:
    """A trial to be run."""

    spec: TrialSpec
    attempt: int
    tries: int = 1

    @property
    def model(self) -> tuple[str, str]:
        """What a replica loads for it; nothing for a trial that needs no weights."""
        return (self.spec.model, self.spec.dtype) if self.spec.needs_model else ("", "")


@dataclass(frozen=True, slots=True)
class Stage:
    """Trials that are run side by side, and the replicas they are run on."""

    specs: tuple[TrialSpec, ...]
    replicas: int
    cpus: int
    """That each replica takes from its node."""
    gpus: float
    threads: int
    """Of one operation."""
    exclusive: bool


@dataclass(slots=True)
class _Slot:
    """A place for a replica, and what the replica there is doing."""

    index: int
    actor: Any
    model: tuple[str, str] | None = None
    """The model it has loaded, or is loading."""
    job: _Job | None = None
    ref: Any = None
    began: datetime = field(default_factory=lambda: datetime.now(UTC))


def run_on_ray(
    plan: Plan,
    recording: AbstractContextManager[Recorder],
    *,
    load: LoadModel | None = None,
    run: RunTrial | None = None,
) -> None:
    """Run the pending trials of ``plan`` on replicas. Raises ``SweepError`` if they do not fit the cluster.

    ``recording`` is entered when they do, while the replicas start.
    """
    with _connected():
        first, *later = make_stages(plan, _node_resources())
        controller = Controller(plan, first, load, run)
        try:
            with recording as recorder:
                controller.run(recorder)
                for stage in later:
                    controller.stop()
                    controller = Controller(plan, stage, load, run)
                    controller.run(recorder)
        finally:
            controller.stop()


class Controller:
    """Hands out the trials of one stage."""

    def __init__(self, plan: Plan, stage: Stage, load: LoadModel | None = None, run: RunTrial | None = None) -> None:
        """Start the replicas; they load their model with their first trial."""
        self._sweep, self._stage, self._load, self._run = plan.sweep.name, stage, load, run
        self._allow_unsafe_code = plan.allow_unsafe_code
        self._pending = [_Job(spec, plan.next_attempt[spec.trial_id]) for spec in stage.specs]
        self._groups = {spec: spec.dense_counterpart().trial_id for spec in stage.specs}
        self._owners: dict[str, int] = {}
        self._board: Any = ray.remote(Board).options(num_cpus=0).remote()
        self._slots = deque(_Slot(index, self._start(index)) for index in range(stage.replicas))

    def run(self, recorder: Recorder) -> None:
        """Until every trial has ended: give free replicas work, wait, take what has come."""
        self._recorder = recorder
        while self._pending or any(slot.job for slot in self._slots):
            for slot in self._slots:
                if slot.job is None and self._pending:
                    self._give(slot)
            # ray.wait prefers the front of the list, so each replica gets its turn there.
            self._slots.rotate()
            busy = {slot.ref: slot for slot in self._slots if slot.job}
            ready, _ = ray.wait(list(busy), timeout=_POLL_S)
            for ref in ready:
                self._take(busy[ref])
            self._show_samples()

    def stop(self) -> None:
        """End the actors that this controller started."""
        for actor in [slot.actor for slot in self._slots] + [self._board]:
            ray.kill(actor)

    def _start(self, index: int) -> Any:
        stage = self._stage
        options = {"num_cpus": stage.cpus, "num_gpus": stage.gpus, "max_restarts": 0, "max_task_retries": 0}
        return (
            ray.remote(Replica)
            .options(max_concurrency=1, **options)
            .remote(
                cpus=stage.threads,
                load=self._load,
                run=self._run,
                report=partial(_post, self._board, index),
                exclusive=stage.exclusive,
                allow_unsafe_code=self._allow_unsafe_code,
            )
        )

    def _give(self, slot: _Slot) -> None:
        job = self._choose(slot)
        self._pending.remove(job)
        self._owners.setdefault(self._groups[job.spec], slot.index)
        slot.job, slot.model, slot.began = job, job.model, datetime.now(UTC)
        slot.ref = slot.actor.run.remote(job.spec, self._sweep, job.attempt)
        self._recorder.progress.begin(slot.index, job.spec)

    def _choose(self, slot: _Slot) -> _Job:
        """The first pending trial of this replica's groups, else of a group nobody has begun, else of any.

        Among equals one of the model it has loaded, or, if it has none, of a model that no other replica has.
        """
        elsewhere = {other.model for other in self._slots}

        def reluctance(job: _Job) -> tuple[int, bool]:
            owner = self._owners.get(self._groups[job.spec])
            strange = job.model != slot.model if slot.model else job.model in elsewhere
            return (1 if owner is None else 0 if owner == slot.index else 2), strange

        return min(self._pending, key=reluctance)

    def _take(self, slot: _Slot) -> None:
        job, slot.job = slot.job, None
        assert job is not None  # noqa: S101 - only busy slots are waited for
        try:
            result = ray.get(slot.ref)
        except RayActorError as error:
            self._replica_died(slot, job, error)
        except RayTaskError as error:
            if isinstance(error.cause, ModelLoadError):
                self._model_failed(slot, job, str(error.cause))
            else:  # the result could not be made or sent; the replica lives
                self._fail(slot, job, "error", str(error))
        else:
            self._recorder.record(result, replica=slot.index)

    def _replica_died(self, slot: _Slot, job: _Job, error: RayActorError) -> None:
        again = job.tries < MAX_TRIES
        reason = f"replica {slot.index} died: {' '.join(str(error).split())}"
        self._fail(slot, job, "killed", reason, final=not again)
        if again:
            self._pending.insert(0, _Job(job.spec, job.attempt + 1, job.tries + 1))
        if self._pending:
            slot.actor, slot.model = self._start(slot.index), None

    def _model_failed(self, slot: _Slot, job: _Job, reason: str) -> None:
        """No replica could load it either, so its other trials fail with it, without another try."""
        slot.model = None
        self._fail(slot, job, "error", reason)
        doomed = [other for other in self._pending if other.model == job.model]
        self._pending = [other for other in self._pending if other.model != job.model]
        for other in doomed:
            self._recorder.record_failure(other.spec, "error", reason, attempt=other.attempt)

    def _fail(self, slot: _Slot, job: _Job, status: Status, reason: str, *, final: bool = True) -> None:
        self._recorder.record_failure(
            job.spec,
            status,
            reason,
            attempt=job.attempt,
            started_at=slot.began,
            replica=slot.index,
            final=final,
        )

    def _show_samples(self) -> None:
        try:
            posted: dict[int, tuple[str, int, int]] = ray.get(self._board.read.remote(), timeout=_POLL_S)
        except (GetTimeoutError, RayActorError):
            return  # a display that stands still is no reason to stop
        for replica, (trial_id, done, total) in posted.items():
            self._recorder.progress.samples(replica, trial_id, done, total)


def make_stages(plan: Plan, nodes: list[dict[str, float]]) -> list[Stage]:
    """The pending trials: first those that share a machine, then those that do not; at least one stage.

    Raises ``SweepError`` if the nodes cannot hold the replicas.
    """
    sweep = plan.sweep
    gpus = sweep.gpus_per_replica
    on_gpu = any(node.get("GPU", 0) for node in nodes) if gpus is None else gpus > 0
    alone = tuple(spec for spec in plan.pending if sweep.is_exclusive(spec, on_gpu=on_gpu))
    shared = tuple(spec for spec in plan.pending if spec not in alone)
    stages: list[Stage] = []
    if shared or not alone:
        cpus, share = place_replicas(sweep, nodes)
        replicas = min(sweep.replicas, len(shared))
        stages.append(Stage(shared, replicas, cpus, share, threads=cpus, exclusive=False))
    if alone:
        largest = max(nodes, key=lambda node: (node.get("GPU", 0) >= (gpus or 0), node.get("CPU", 0)))
        cores, has = int(largest.get("CPU", 0)), largest.get("GPU", 0)
        threads = sweep.cpus_per_replica or cores
        if threads > cores or (gpus or 0) > has:
            raise SweepError(
                f"cpus_per_replica is {threads} and gpus_per_replica {gpus or 0:g}, for trials that have a machine to "
                f"themselves; allowed: {cores} CPU and {has:g} GPU at most, as the largest node has"
            )
        gpus = min(1.0, has) if gpus is None else gpus
        stages.append(Stage(alone, 1, cores, gpus, threads=threads, exclusive=True))
    return stages


def place_replicas(sweep: SweepSpec, nodes: list[dict[str, float]]) -> tuple[int, float]:
    """CPUs and GPUs of each replica. Raises ``SweepError`` if the nodes cannot hold all replicas at once."""
    all_cpus, all_gpus = (sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
    cpus = sweep.cpus_per_replica or max(1, int(all_cpus) // sweep.replicas)
    gpus = sweep.gpus_per_replica
    if gpus is None:
        gpus = min(1.0, int(100 * all_gpus / sweep.replicas) / 100)
    room = sum(
        int(min(node.get("CPU", 0) // cpus, (node.get("GPU", 0) + 1e-6) // gpus if gpus else float("inf")))
        for node in nodes
    )
    if room < sweep.replicas:
        raise SweepError(
            f"replicas is {sweep.replicas}, each with {cpus} CPU and {gpus:g} GPU; allowed: {room} at most, "
            f"as there are {all_cpus:g} CPU and {all_gpus:g} GPU on {len(nodes)} node(s)"
        )
    return cpus, gpus


def _node_resources() -> list[dict[str, float]]:
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node["Resources"] for node in nodes if node["Alive"]]


def _post(board: Any, replica: int, trial_id: str, done: int, total: int) -> None:
    """Runs in the replica's process, and does not wait for the board."""
    board.post.remote(replica, trial_id, done, total)


@contextmanager
def _connected() -> Iterator[None]:
    """A connection to the cluster at ``RAY_ADDRESS``, or else to one of our own on this machine, ended after use."""
    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address := os.environ.get("RAY_ADDRESS"):
        ray.init(address=address, **quiet)
    else:
        # The cluster listens on loopback alone and lives as long as this process: a token would only be left behind.
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        ray.init(
            address="local",
            num_cpus=usable_cores(),
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            _node_ip_address="127.0.0.1",
            **quiet,
        )
    try:
        yield
    finally:
        ray.shutdown()
