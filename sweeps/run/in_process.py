"""A sweep without Ray: the same trials, one after another, on one replica in this process."""

from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial

from harness.environment import usable_cores
from harness.replica import LoadModel, ModelLoadError, Replica, RunTrial
from harness.results.trial_result import Status
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
    models = list(dict.fromkeys((spec.model, spec.dtype, spec.weights) for spec in plan.pending))
    specs = sorted(plan.pending, key=lambda spec: models.index((spec.model, spec.dtype, spec.weights)))
    gathering = Gathering()
    broken: dict[ModelKey, ModelLoadError] = {}
    with ended_by_signals() as check_signals, recording as recorder:
        replica = Replica(
            cpus=plan.sweep.cpus_per_replica or usable_cores(),
            load=load,
            run=run,
            report=partial(recorder.progress.samples, 0),
            exclusive=True,  # within this sweep each trial has the machine to itself
            allow_unsafe_code=plan.allow_unsafe_code,
            checkpoints=plan.checkpoints,
        )
        for job in gathering.jobs((spec, plan.next_attempt[spec.trial_id], 1.0) for spec in specs):
            check_signals()
            if gathering.has_ended(job):  # another shard of the trial has failed
                continue
            began, reason = datetime.now(UTC), ""
            status: Status = "error"
            try:
                if job.model in broken:
                    raise broken[job.model]
                recorder.progress.begin(0, job.spec)
                with time_limit(plan.sweep.deadline_s):
                    result = replica.run(job.spec, plan.sweep.name, job.attempt, job.shard_to_run)
                whole = gathering.add(job, result)
            except ModelLoadError as error:
                broken[job.model] = error
                status, reason = error.status, str(error)
            except TimeLimitError:
                limit = f"not done after {plan.sweep.deadline_s:g} s, the deadline_s of the sweep"
                status, reason = "timeout", of_shard(job.spec, job.shard, limit)
            except Exception as error:  # noqa: BLE001 - the trial's fault, whatever it is
                reason = of_shard(job.spec, job.shard, not_a_result(error))
            else:
                if whole is None:
                    recorder.progress.shard_ended(0, len(result.samples))
                else:
                    recorder.record(job.spec, whole, began=began, replica=0)
                continue
            recorder.record_failure(job.spec, status, reason, attempt=job.attempt, started_at=began, replica=0)
            gathering.end(job)
