"""The replicas of a stage: Ray actors that are started, watched, replaced and ended, each in its own slot.

All slots request their actor at once. Actors that do not fit the cluster stay pending in Ray's scheduler, where an
autoscaler sees them, and start when a node joins or others end. Nothing here waits for them.
"""

import itertools
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness.replica import Board, LoadModel, News, Replica, RunTrial
from kvcomm_core.config import one_line
from sweeps.plan.planning import Plan
from sweeps.run.placement import Stage
from sweeps.run.retries import MAX_STARTS
from sweeps.run.trial_queue import Job, ModelKey
from sweeps.run.watch import Patience, RunningClock, Stuck, Watch

_BEATS = 24
"""Heartbeats within the time after which a silent replica is ended; this makes one every 5 s."""

_BOARD_S = 30.0
"""A board that takes longer to answer is replaced. Its first answer may take ten times as long, as it starts."""


@dataclass(slots=True)
class Slot:
    """A place for a replica, with the replica's current work."""

    index: int
    actor: Any = None
    """The actor. None if there is none and none will come."""
    ref: Any = None
    """Reference to the job's result or, without a job, to the actor's start."""
    ready: bool = False
    failed_starts: int = 0
    """Failed starts since a replica here was last ready."""
    model: ModelKey | None = None
    """The model that the replica has loaded or is loading."""
    job: Job | None = None
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    """When the replica was given the job."""
    began_s: float = 0.0
    """The same on the clock ``time.monotonic``."""

    @property
    def idle(self) -> bool:
        """Whether the replica is ready for a trial."""
        return self.ready and self.job is None


class Replicas:
    """The replicas that the stage wants, as far as the cluster has room for them."""

    def __init__(
        self, stage: Stage, plan: Plan, load: LoadModel | None, run: RunTrial | None, patience: Patience
    ) -> None:
        """Request all replicas. ``load`` and ``run`` go to ``harness.replica.Replica``."""
        self._stage, self._plan, self._load, self._run = stage, plan, load, run
        # The board runs on this process's node: on another it could be lost while the sweep lives.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": 0, "scheduling_strategy": here}
        self._board: Any = ray.remote(Board).options(**options).remote()
        self._news: Any = None
        self._board_s, self._board_clock, self._asked_s = _BOARD_S, RunningClock(), 0.0
        self._board_answered = False
        self.lost_boards = 0
        """Number of replaced boards."""
        self._watch, self._beat_s = Watch(patience), patience.heartbeat_s / _BEATS
        self._starts = itertools.count(1)
        self.slots = [Slot(index) for index in range(stage.replicas)]
        for slot in self.slots:
            self.start(slot)

    def start(self, slot: Slot) -> None:
        """Request a new replica in ``slot``, and end the present one."""
        self.end(slot)
        stage, start = self._stage, next(self._starts)
        options: dict[str, Any] = {
            "num_cpus": stage.cpus,
            "num_gpus": stage.gpus,
            "max_restarts": 0,
            "max_task_retries": 0,
        }
        if stage.labels:
            options["label_selector"] = stage.labels
        slot.actor = (
            ray.remote(Replica)
            .options(max_concurrency=1, **options)
            .remote(
                cpus=stage.threads,
                load=self._load,
                run=self._run,
                report=partial(_post, self._board, slot.index, start),
                send_heartbeats=partial(_send_heartbeats, self._board, slot.index, start, self._beat_s),
                exclusive=stage.exclusive,
                allow_unsafe_code=self._plan.allow_unsafe_code,
                checkpoints=self._plan.checkpoints,
            )
        )
        slot.ref = slot.actor.__ray_ready__.remote()
        self._watch.asked_for(slot.index, start)

    def end(self, slot: Slot) -> None:
        """End the replica in ``slot``, if any, at once, whatever it is doing."""
        if slot.actor is not None:
            ray.kill(slot.actor)
        slot.actor = slot.ref = slot.model = slot.job = None
        slot.ready = False
        self._watch.ended(slot.index)

    def give(self, slot: Slot, job: Job) -> None:
        """Make the replica in ``slot``, which must be idle, run a trial or a shard."""
        slot.job, slot.model = job, job.model
        slot.began, slot.began_s = datetime.now(UTC), time.monotonic()
        self._watch.given(slot.index, job.trial_id, job.model)
        slot.ref = slot.actor.run.remote(job.spec, self._plan.sweep.name, job.attempt, job.shard_to_run)

    def wait(self, timeout_s: float) -> list[Slot]:
        """Return the slots with news: a replica became ready, a trial ended, or a replica ended."""
        by_ref = {slot.ref: slot for slot in self.slots if slot.ref is not None}
        if not by_ref:
            time.sleep(timeout_s)
            return []
        refs = list(by_ref)
        ready, _ = ray.wait(refs, timeout=timeout_s)
        if ready:
            # The first wait names only the slot at the front of the list.
            ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        return [by_ref[ref] for ref in ready]

    def take_start(self, slot: Slot) -> str | None:
        """Return None if the slot's replica is ready now, else the reason, after the steps of ``start_failed``.

        Call it when ``wait`` has named a slot without a job.
        """
        try:
            ray.get(slot.ref)
        except RayError as error:
            self.start_failed(slot)
            return one_line(error)
        slot.ref, slot.ready, slot.failed_starts = None, True, 0
        self._watch.ready(slot.index)
        return None

    def start_failed(self, slot: Slot) -> None:
        """Request the replica again. After ``MAX_STARTS`` failed starts, set ``actor`` to None instead."""
        slot.failed_starts += 1
        if slot.failed_starts < MAX_STARTS:
            self.start(slot)
        else:
            self.end(slot)

    def end_unneeded(self) -> None:
        """End the replicas without a job, to free their share of the cluster and let nodes go."""
        for slot in self.slots:
            if slot.actor is not None and slot.job is None:
                self.end(slot)

    def stop(self) -> None:
        """End all replicas."""
        for slot in self.slots:
            self.end(slot)
        ray.kill(self._board)

    @property
    def busy(self) -> list[Slot]:
        """The slots that run a trial."""
        return [slot for slot in self.slots if slot.job is not None]

    def stuck(self) -> list[tuple[Slot, Stuck]]:
        """Return the slots with a stuck replica and the reason, based on ``positions``."""
        found = ((slot, self._watch.stuck(slot.index, idle=slot.idle)) for slot in self.slots)
        return [(slot, stuck) for slot, stuck in found if stuck is not None]

    def positions(self) -> Iterator[tuple[int, str, int, int | None]]:
        """Yield the news since the last call, without waiting: replica, trial id, samples done, samples in total."""
        for replica, said in self._read_board().items():
            if said.position is not None:
                yield replica, *said.position

    def _read_board(self) -> dict[int, News]:
        """Return the board's answers since the last call. A silent or lost board condemns no replica."""
        self._board_clock.look()
        if self._news is None:
            self._news, self._asked_s = self._board.read.remote(), self._board_clock.seconds
        ready, _ = ray.wait([self._news], timeout=0)
        if ready:
            answer, self._news = self._news, None
            with suppress(RayError):  # the board was lost, and Ray starts another
                news: dict[int, News] = ray.get(answer)
                self._board_answered = True
                self._watch.hear(news)
                return news
        elif self._board_clock.seconds - self._asked_s > self._board_s * (1 if self._board_answered else 10):
            ray.kill(self._board, no_restart=False)
            self._news, self._board_answered = None, False
            self.lost_boards += 1
        return {}


def _post(board: Any, replica: int, start: int, trial_id: str, done: int, total: int | None) -> None:
    """Post progress from the replica's process, without waiting for the board."""
    board.post.remote(replica, start, trial_id, done, total)


def _send_heartbeats(board: Any, replica: int, start: int, every_s: float) -> None:
    """Send heartbeats from a thread of the replica's process, without waiting for the board."""
    for number in itertools.count(1):
        with suppress(Exception):  # the board is being replaced; its successor may answer
            board.beat.remote(replica, start, number)
        time.sleep(every_s)
