"""A sweep on Ray: warm replica actors, and one loop that hands them trials and takes their results.

The loop is our own because the pools of ``ray.util`` ignore two needs: a trial prefers a replica that has its model
loaded, and trials that are compared with each other (equal but for the method) belong on the same replica.

The shards of a trial run and are retried independently. They become one trial again when the last one is done.

``retries.py`` says which trials run again when their replica is lost.

Exclusive trials come last, one after another, on one replica that takes every CPU of its node.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import ray
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

from harness.replica import LoadModel, ModelLoadError, RunTrial
from harness.results.trial_result import Status
from harness.trials.shards import of_shard
from kvcomm_core.config import one_line
from sweeps.jobs.plug_in_files import plug_in_files
from sweeps.plan.planning import Plan
from sweeps.run.placement import Stage, make_stages, room, suitable
from sweeps.run.ray_connection import connected, live_nodes
from sweeps.run.recorder import Recorder
from sweeps.run.replica_slots import Replicas, Slot
from sweeps.run.retries import MAX_STARTS, MAX_TRIES, after_loss
from sweeps.run.shards_under_way import Gathering, not_a_result
from sweeps.run.signals import ended_by_signals
from sweeps.run.trial_queue import Job, ModelKey, TrialQueue
from sweeps.run.watch import Patience
from sweeps.status.ray_metrics import RayMetrics

_POLL_S = 0.5
_PATIENCE_S = 30.0
"""Seconds without a replica before the controller says so."""


def run_on_ray(
    plan: Plan,
    recording: AbstractContextManager[Recorder],
    *,
    load: LoadModel | None = None,
    run: RunTrial | None = None,
    patience: Patience | None = None,
) -> None:
    """Run the pending trials of ``plan`` on replicas. Raises ``SweepError`` if they do not fit the cluster.

    ``recording`` is entered if they fit, while the replicas start. ``patience`` sets the time limits of replicas.
    """
    # When Ray connects it installs a SIGTERM handler, which would end the process at once.
    with connected(plug_in_files(plan.sweep.trials)) as cluster, ended_by_signals() as check_signals:
        first, *later = make_stages(plan, suitable(live_nodes(), plan.sweep), grows=cluster.grows)
        controller = Controller(plan, first, load, run, patience)
        try:
            with recording as recorder:
                if cluster.warning:
                    recorder.progress.say(cluster.warning)
                recorder.progress.add_watcher(RayMetrics(plan.sweep.name))
                controller.run(recorder, check_signals)
                for stage in later:
                    controller.stop()
                    controller = Controller(plan, stage, load, run, patience)
                    controller.run(recorder, check_signals)
        finally:
            controller.stop()


class Controller:
    """Gives the trials of one stage to replicas and takes their results."""

    def __init__(
        self,
        plan: Plan,
        stage: Stage,
        load: LoadModel | None = None,
        run: RunTrial | None = None,
        patience: Patience | None = None,
    ) -> None:
        """Start the replicas; they load their model with their first trial."""
        self._gathering = Gathering()
        trials = ((spec, plan.next_attempt[spec.trial_id], plan.costs[spec.trial_id].work) for spec in stage.specs)
        self._queue = TrialQueue(self._gathering.jobs(trials))
        self._stage, self._deadline_s = stage, plan.sweep.deadline_s
        self._loaded: set[ModelKey] = set()
        """Models that a replica has loaded."""
        self._said: set[str] = set()
        self._start_failure = ""
        self._alive_s = time.monotonic()
        self._replicas = Replicas(stage, plan, load, run, patience or Patience())

    def run(self, recorder: Recorder, check_signals: Callable[[], None]) -> None:
        """Give work to free replicas, wait, and take results, until every trial has ended."""
        self._recorder = recorder
        recorder.progress.wanted_replicas = self._stage.replicas
        while self._queue or self._replicas.busy:
            for slot in self._replicas.slots:
                if slot.idle and self._queue:
                    self._give(slot)
            if not self._queue:
                self._replicas.end_unneeded()
            for slot in self._replicas.wait(_POLL_S):
                self._take(slot)
            self._end_overdue()
            self._end_vain()
            self._look_after_replicas()
            self._show_progress()
            self._end_stuck()
            check_signals()

    def stop(self) -> None:
        """End the actors that this controller started."""
        self._replicas.stop()

    def _give(self, slot: Slot) -> None:
        elsewhere = {other.model for other in self._replicas.slots if other is not slot}
        job = self._queue.take(slot.index, slot.model, elsewhere)
        self._replicas.give(slot, job)
        self._recorder.progress.begin(slot.index, job.spec)

    def _take(self, slot: Slot) -> None:
        job = slot.job
        if job is None:
            if reason := self._replicas.take_start(slot):
                self._cannot_start(slot, reason)
            return
        if self._gathering.has_ended(job):
            return
        try:
            result = ray.get(slot.ref)
        except OutOfMemoryError as error:  # Ray ended the process before the kernel did
            self._fail(slot, job, "oom", f"replica {slot.index} was ended for want of memory: {one_line(error)}")
            self._replace(slot)
        except RayTaskError as error:
            slot.job = slot.ref = None
            if isinstance(error.cause, ModelLoadError):
                slot.model = None
                self._model_failed(slot, job, error.cause.status, str(error.cause))
            else:  # the result could not be made or sent; the replica lives
                self._fail(slot, job, "error", str(error))
        except RayError as error:  # the process, its node or the result is lost
            self._replica_died(slot, job, f"replica {slot.index} died: {one_line(error)}")
        except Exception as error:  # noqa: BLE001 - the result came but cannot be unpacked
            slot.job = slot.ref = None
            self._fail(slot, job, "error", not_a_result(error))
        else:
            slot.job = slot.ref = None
            self._loaded.add(job.model)
            try:
                whole = self._gathering.add(job, result)
            except Exception as error:  # noqa: BLE001 - the trial's fault, whatever it is
                self._fail(slot, job, "error", not_a_result(error))
                return
            if whole is None:
                self._recorder.progress.shard_ended(slot.index, len(result.samples))
            else:
                self._recorder.record(job.spec, whole, began=slot.began, replica=slot.index)
                self._drop_shards(job)
            if result.trial.status == "error" and "CUDA error" in (result.trial.error or ""):
                self._replace(slot)  # after one, a process can no longer use its GPU

    def _cannot_start(self, slot: Slot, reason: str) -> None:
        self._say_once(reason, f"replica {slot.index} cannot start: {reason}")
        self._start_failure = reason

    def _replica_died(self, slot: Slot, job: Job, reason: str, status: Status = "killed") -> None:
        match after_loss(job.tries, model_was_loaded=job.model in self._loaded):
            case "retry":
                self._fail(slot, job, status, reason, final=False)
                self._queue.put_back(self._gathering.again(job))
            case "fail trial":
                self._fail(slot, job, status, reason)
            case "fail model":
                none_loaded = f"{reason} (and {MAX_TRIES - 1} others, none having loaded it)"
                self._model_failed(slot, job, status, none_loaded)
        self._replace(slot)

    def _model_failed(self, slot: Slot, job: Job, status: Status, reason: str) -> None:
        """Fail the job and all waiting trials of its model, without another try: no replica could load it either."""
        self._fail(slot, job, status, reason)
        self._fail_waiting(self._queue.drop(lambda other: other.model == job.model), status, reason)

    def _fail(self, slot: Slot, job: Job, status: Status, reason: str, *, final: bool = True) -> None:
        self._recorder.record_failure(
            job.spec,
            status,
            of_shard(job.spec, job.shard, reason),
            attempt=self._gathering.attempt(job),
            started_at=slot.began,
            replica=slot.index,
            final=final,
        )
        if final:
            self._gathering.end(job)
            self._drop_shards(job)

    def _fail_waiting(self, jobs: list[Job], status: Status, reason: str) -> None:
        for job in jobs:
            if not self._gathering.has_ended(job):
                self._recorder.record_failure(job.spec, status, reason, attempt=self._gathering.attempt(job))
                self._gathering.end(job)

    def _drop_shards(self, job: Job) -> None:
        """Drop the waiting shards of the trial of ``job``, which has ended; after a failure there may be some."""
        if job.spec.shards > 1:
            self._queue.drop(lambda other: other.trial_id == job.trial_id)

    def _replace(self, slot: Slot) -> None:
        if self._queue:
            self._replicas.start(slot)
        else:
            self._replicas.end(slot)

    def _end_overdue(self) -> None:
        if self._deadline_s is None:
            return
        for slot in self._replicas.busy:
            assert slot.job is not None  # noqa: S101 - it is busy
            if time.monotonic() - slot.began_s > self._deadline_s and not self._gathering.has_ended(slot.job):
                reason = f"not done after {self._deadline_s:g} s, the deadline_s of the sweep"
                self._fail(slot, slot.job, "timeout", reason)
                self._replace(slot)

    def _end_stuck(self) -> None:
        """Replace replicas that send no heartbeat or make no progress."""
        for slot, stuck in self._replicas.stuck():
            reason = f"replica {slot.index} was ended: {stuck.reason}"
            if slot.job is not None:
                if not self._gathering.has_ended(slot.job):  # else it is ended anyway
                    self._replica_died(slot, slot.job, reason, stuck.status)
            elif slot.ready:
                self._recorder.progress.say(f"{reason}; another one starts")
                self._replace(slot)
            else:
                self._cannot_start(slot, stuck.reason)
                self._replicas.start_failed(slot)

    def _end_vain(self) -> None:
        """End replicas that run a shard of a trial of which another shard has failed."""
        for slot in self._replicas.busy:
            if slot.job is not None and self._gathering.has_ended(slot.job):
                self._recorder.progress.shard_ended(slot.index, 0)
                self._replace(slot)

    def _look_after_replicas(self) -> None:
        """Say if there are no replicas. Fail the remaining trials if there can be none."""
        slots = self._replicas.slots
        self._recorder.progress.replicas = sum(slot.ready for slot in slots)
        if any(slot.ready for slot in slots) or not self._queue:
            self._alive_s = time.monotonic()
        elif not any(slot.actor for slot in slots):
            hopeful = [slot for slot in slots if slot.failed_starts < MAX_STARTS]
            for slot in hopeful[:1]:
                self._replicas.start(slot)
            if not hopeful:
                every = self._queue.drop(lambda _: True)
                self._fail_waiting(every, "error", f"no replica can start: {self._start_failure}")
        elif time.monotonic() - self._alive_s > _PATIENCE_S:
            needed = room(self._stage.cpus, self._stage.gpus, self._stage.accelerator)
            has = [
                (node.resources.get("CPU", 0), node.resources.get("GPU", 0), node.accelerator) for node in live_nodes()
            ]
            there = "; ".join(room(*one) for one in has)
            self._say_once("waiting", f"waiting for room: a replica takes {needed}, the nodes have {there}")

    def _say_once(self, what: str, line: str) -> None:
        if what not in self._said:
            self._said.add(what)
            self._recorder.progress.say(line)

    def _show_progress(self) -> None:
        for replica, trial_id, done, total in self._replicas.positions():
            job = self._replicas.slots[replica].job
            if job is not None and job.trial_id == trial_id:
                self._loaded.add(job.model)
            self._recorder.progress.samples(replica, trial_id, done, total)
        if self._replicas.lost_boards:
            self._say_once("board", "the process that collects what replicas report did not answer; it was replaced")
        self._recorder.tick()
