"""A sweep without Ray: the same trials, one after another, on one replica in this process."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial

from harness.environment import usable_cores
from harness.replica import LoadModel, ModelLoadError, Replica, RunTrial
from harness.trials.shards import of_shard
from sweeps.plan.planning import Plan
from sweeps.run.recorder import Recorder
from sweeps.run.shards_under_way import Gathering, not_a_result
from sweeps.run.signals import TimeLimitError, ended_by_signals, time_limit
from sweeps.run.trial_queue import ModelKey


def run_in_process(
    plan: Plan,
    recording: AbstractContextManager[Recorder],
    *,
    load: LoadModel | None = None,
    run: RunTrial | None = None,
) -> None:
    """Run the pending trials of ``plan``. They are ordered by model, so that each model is loaded once."""
    with ended_by_signals() as check_signals, recording as recorder:
        _run(plan, recorder, load, run, check_signals)


def _run(
    plan: Plan,
    recorder: Recorder,
    load: LoadModel | None,
    run: RunTrial | None,
    check_signals: Callable[[], None],
) -> None:
    cpus = plan.sweep.cpus_per_replica or usable_cores()
    # Trials run one after another in one process, so within this sweep each has the machine to itself.
    report = partial(recorder.progress.samples, 0)
    replica = Replica(
        cpus=cpus,
        load=load,
        run=run,
        report=report,
        exclusive=True,
        allow_unsafe_code=plan.allow_unsafe_code,
        checkpoints=plan.checkpoints,
    )
    models = list(dict.fromkeys((spec.model, spec.dtype) for spec in plan.pending))
    specs = sorted(plan.pending, key=lambda spec: models.index((spec.model, spec.dtype)))
    gathering = Gathering()
    broken: dict[ModelKey, ModelLoadError] = {}
    for job in gathering.jobs((spec, plan.next_attempt[spec.trial_id], 1.0) for spec in specs):
        check_signals()
        if gathering.has_ended(job):  # another shard of the trial has failed
            continue
        fail = partial(recorder.record_failure, job.spec, attempt=job.attempt, replica=0)
        if job.model not in broken:
            recorder.progress.begin(0, job.spec)
            began = datetime.now(UTC)
            try:
                with time_limit(plan.sweep.deadline_s):
                    result = replica.run(job.spec, plan.sweep.name, job.attempt, job.shard_to_run)
            except ModelLoadError as error:
                broken[job.model] = error
            except TimeLimitError:
                reason = f"not done after {plan.sweep.deadline_s:g} s, the deadline_s of the sweep"
                fail("timeout", of_shard(job.spec, job.shard, reason), started_at=began)
                gathering.end(job)
                continue
            else:
                try:
                    whole = gathering.add(job, result)
                except Exception as error:  # noqa: BLE001 - the trial's fault, whatever it is
                    fail("error", of_shard(job.spec, job.shard, not_a_result(error)), started_at=began)
                    gathering.end(job)
                    continue
                if whole is None:
                    recorder.progress.shard_ended(0, len(result.samples))
                else:
                    recorder.record(job.spec, whole, began=began, replica=0)
                continue
        fail(broken[job.model].status, str(broken[job.model]))
        gathering.end(job)
