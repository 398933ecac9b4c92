"""The replicas of a stage: Ray actors that are started, watched, replaced and ended, each in a slot of its own.

All slots ask for their actor at once. Those that the cluster has no room for stay pending in Ray's scheduler, where
an autoscaler sees them, and start when a node joins or others end. Nothing here waits for one of them.
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
from harness.results.checkpoint import Checkpoints
from kvcomm_core.config import one_line
from sweeps.run.placement import Stage
from sweeps.run.trial_queue import Job, ModelKey
from sweeps.run.watch import Patience, RunningClock, Stuck, Watch

MAX_STARTS = 3
"""A slot whose replica ends so many times in a row before it is ready is given up."""

_BEATS = 24
"""Heartbeats in the time after which a replica without one is ended: every 5 s."""

_BOARD_S = 30.0
"""A board that takes longer to answer is replaced; it may take ten times as long over the first one, as it starts."""


@dataclass(slots=True)
class Slot:
    """A place for a replica, and what the replica there is doing."""

    index: int
    actor: Any = None
    """None if there is none, nor one to come."""
    ref: Any = None
    """Of the actor's start or, while it has a job, of the job's result."""
    ready: bool = False
    failed_starts: int = 0
    """Since the last time a replica here was ready."""
    model: ModelKey | None = None
    """The model it has loaded, or is loading."""
    job: Job | None = None
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    """When it was given the job."""
    began_s: float = 0.0
    """The same by ``time.monotonic``."""

    @property
    def idle(self) -> bool:
        """Ready for a trial."""
        return self.ready and self.job is None


class Replicas:
    """As many as the stage wants, or as the cluster has room for."""

    def __init__(
        self,
        stage: Stage,
        sweep: str,
        load: LoadModel | None,
        run: RunTrial | None,
        *,
        allow_unsafe_code: bool,
        checkpoints: Checkpoints | None,
        patience: Patience,
    ) -> None:
        """Ask for all of them. ``load``, ``run``, ``allow_unsafe_code`` and ``checkpoints`` go to
        ``harness.replica.Replica``.
        """
        self._stage, self._sweep, self._load, self._run = stage, sweep, load, run
        self._allow_unsafe_code, self._checkpoints = allow_unsafe_code, checkpoints
        # Where this process runs: on any other node the board could be lost without the sweep.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": 0, "scheduling_strategy": here}
        self._board: Any = ray.remote(Board).options(**options).remote()
        self._news: Any = None
        self._board_s, self._board_clock, self._asked_s = _BOARD_S, RunningClock(), 0.0
        self._board_answered = False
        self.lost_boards = 0
        """Boards that were replaced."""
        self._watch, self._beat_s = Watch(patience), patience.heartbeat_s / _BEATS
        self._starts = itertools.count(1)
        self.slots = [Slot(index) for index in range(stage.replicas)]
        for slot in self.slots:
            self.start(slot)

    def start(self, slot: Slot) -> None:
        """Ask for a new replica in ``slot``; one that is there is ended."""
        self.end(slot)
        stage, start = self._stage, next(self._starts)
        options = {"num_cpus": stage.cpus, "num_gpus": stage.gpus, "max_restarts": 0, "max_task_retries": 0}
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
                allow_unsafe_code=self._allow_unsafe_code,
                checkpoints=self._checkpoints,
            )
        )
        slot.ref = slot.actor.__ray_ready__.remote()
        self._watch.asked_for(slot.index, start)

    def end(self, slot: Slot) -> None:
        """End the replica in ``slot`` if there is one, at once and whatever it is doing."""
        if slot.actor is not None:
            ray.kill(slot.actor)
        slot.actor = slot.ref = slot.model = slot.job = None
        slot.ready = False
        self._watch.ended(slot.index)

    def give(self, slot: Slot, job: Job) -> None:
        """Let the replica in ``slot``, which must be idle, run a trial or a shard of it."""
        slot.job, slot.model = job, job.model
        slot.began, slot.began_s = datetime.now(UTC), time.monotonic()
        self._watch.given(slot.index, job.model)
        slot.ref = slot.actor.run.remote(job.spec, self._sweep, job.attempt, job.shard_to_run)

    def wait(self, timeout_s: float) -> list[Slot]:
        """Those with news: a replica that is ready, a trial that has ended, or the end of the replica."""
        by_ref = {slot.ref: slot for slot in self.slots if slot.ref is not None}
        if not by_ref:
            time.sleep(timeout_s)
            return []
        refs = list(by_ref)
        ready, _ = ray.wait(refs, timeout=timeout_s)
        if ready:
            # The first wait names one alone, that at the front of the list.
            ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        return [by_ref[ref] for ref in ready]

    def take_start(self, slot: Slot) -> str | None:
        """After ``wait`` named a slot without a job: None if its replica is ready now, else why it is not, as after
        ``start_failed``.
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
        """Ask for its replica again unless this was the last of ``MAX_STARTS`` times, after which ``actor`` is None."""
        slot.failed_starts += 1
        if slot.failed_starts < MAX_STARTS:
            self.start(slot)
        else:
            self.end(slot)

    def end_unneeded(self) -> None:
        """End those without a job: their share of the cluster is free for others, and its nodes may go."""
        for slot in self.slots:
            if slot.actor is not None and slot.job is None:
                self.end(slot)

    def stop(self) -> None:
        """End all of them."""
        for slot in self.slots:
            self.end(slot)
        ray.kill(self._board)

    @property
    def busy(self) -> list[Slot]:
        """Those that run a trial."""
        return [slot for slot in self.slots if slot.job is not None]

    def stuck(self) -> list[tuple[Slot, Stuck]]:
        """The slots with a replica that gets on with nothing, and why they are taken for such, by ``positions``."""
        found = ((slot, self._watch.stuck(slot.index, idle=slot.idle)) for slot in self.slots)
        return [(slot, stuck) for slot, stuck in found if stuck is not None]

    def positions(self) -> Iterator[tuple[int, str, int, int | None]]:
        """News since the last call, without waiting for it: replica, trial id, samples done and in all."""
        for replica, said in self._read_board().items():
            if said.position is not None:
                yield replica, *said.position

    def _read_board(self) -> dict[int, News]:
        """What it has answered since the last call. A board that is silent, or was lost, blames no replica."""
        self._board_clock.look()
        if self._news is None:
            self._news, self._asked_s = self._board.read.remote(), self._board_clock.seconds
        ready, _ = ray.wait([self._news], timeout=0)
        if ready:
            answer, self._news = self._news, None
            with suppress(RayError):  # it was lost, and Ray starts another
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
    """Runs in the replica's process, and does not wait for the board."""
    board.post.remote(replica, start, trial_id, done, total)


def _send_heartbeats(board: Any, replica: int, start: int, every_s: float) -> None:
    """Runs in a thread of the replica's process, and does not wait for the board either."""
    for number in itertools.count(1):
        with suppress(Exception):  # a board that is being replaced; the next one may be heard
            board.beat.remote(replica, start, number)
        time.sleep(every_s)
