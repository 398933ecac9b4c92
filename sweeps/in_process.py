"""A sweep without Ray: the same trials, one after another, on one replica in this process."""

from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial

from harness.environment import usable_cores
from harness.replica import LoadModel, ModelLoadError, Replica, RunTrial
from sweeps.plan import Plan
from sweeps.recorder import Recorder
from sweeps.signals import TimeLimitError, time_limit


def run_in_process(
    plan: Plan,
    recording: AbstractContextManager[Recorder],
    *,
    load: LoadModel | None = None,
    run: RunTrial | None = None,
) -> None:
    """Run the pending trials of ``plan``; trials of one model follow each other, so that each is loaded once."""
    with recording as recorder:
        _run(plan, recorder, load, run)


def _run(plan: Plan, recorder: Recorder, load: LoadModel | None, run: RunTrial | None) -> None:
    cpus = plan.sweep.cpus_per_replica or usable_cores()
    # One trial after another in one process: each has the machine to itself, as far as this sweep goes.
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
    broken: dict[tuple[str, str], ModelLoadError] = {}
    for spec in sorted(plan.pending, key=lambda spec: models.index((spec.model, spec.dtype))):
        model = (spec.model, spec.dtype)
        attempt = plan.next_attempt[spec.trial_id]
        if model not in broken:
            recorder.progress.begin(0, spec)
            began = datetime.now(UTC)
            try:
                with time_limit(plan.sweep.deadline_s):
                    result = replica.run(spec, plan.sweep.name, attempt)
            except ModelLoadError as error:
                broken[model] = error
            except TimeLimitError:
                reason = f"not done after {plan.sweep.deadline_s:g} s, the deadline_s of the sweep"
                recorder.record_failure(spec, "timeout", reason, attempt=attempt, started_at=began, replica=0)
                continue
            else:
                recorder.record(result, replica=0)
                continue
        failure = broken[model]
        recorder.record_failure(spec, failure.status, str(failure), attempt=attempt, replica=0)
