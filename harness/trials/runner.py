"""Run one trial: an ordinary function from a spec and a loaded model to a result.

It knows nothing of Ray, of the place where it runs, or of kinds of trials: the workload names the function that does
the work. A failure inside becomes a result with its status, not an exception.
"""

import importlib
import traceback
from collections.abc import Callable
from datetime import UTC, datetime

from harness.environment import capture_environment, measure_load
from harness.memory import MemoryMeter, default_device
from harness.results.checkpoint import Checkpoints
from harness.results.summary import trial_row, with_metrics
from harness.results.trial_result import Status, TrialResult
from harness.spec import TrialSpec
from harness.trials.shards import merge_shards
from harness.trials.trial_run import OnSample, TrialRun
from kvcomm_core.models.devices import describe_devices, is_out_of_memory
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.models.model_config import ModelError


def run_trial(
    spec: TrialSpec,
    model: LoadedModel | None,
    *,
    sweep: str = "",
    attempt: int = 1,
    on_sample: OnSample | None = None,
    allow_unsafe_code: bool = False,
    checkpoints: Checkpoints | None = None,
    shard: int | None = None,
) -> TrialResult:
    """Run ``spec`` from empty pools to its result.

    ``model`` may be None if the workload needs no weights. ``on_sample(done, total)`` is called after each item or
    repeat of a shard. With ``allow_unsafe_code``, model-written code runs even where it cannot be confined.
    ``checkpoints`` is where a trial on questions resumes from and writes its own. ``shard``, from 0, runs this shard
    alone, for ``merge_shards``; None runs all shards, one after another. Only ``KeyboardInterrupt`` and similar
    exceptions pass through.
    """

    def run_shard(index: int) -> TrialResult:
        run = TrialRun(
            spec=spec,
            loaded=model,
            attempt=attempt,
            shard=index,
            memory=MemoryMeter([group.device for group in model.layout.groups] if model else [default_device()]),
            report=on_sample,
            allow_unsafe_code=allow_unsafe_code,
            checkpoints=checkpoints,
        )
        return _result(run, sweep)

    if shard is not None:
        return run_shard(shard)
    results = {}
    for index in range(spec.shards):
        results[index] = run_shard(index)
        if results[index].trial.status != "ok":
            break
    return merge_shards(spec, results, attempt)


def _result(run: TrialRun, sweep: str) -> TrialResult:
    """Let the workload's runner fill ``run``. Return its result, or the failure's."""
    started_at, load_at_start, memory_at_start = datetime.now(UTC), measure_load(), run.memory.now()
    environment = capture_environment()
    status: Status = "ok"
    error = None
    try:
        if run.loaded is not None and run.spec.team_label is not None:
            run.loaded.require_chat(decodes=run.spec.workload.converses)
        find_runner(run.spec.workload.runner)(run)
    except ModelError as failure:  # the message says everything
        status, error = "error", str(failure)
    except Exception as failure:  # noqa: BLE001 - a failed trial is a row, whatever failed
        status, error = "oom" if is_out_of_memory(failure) else "error", traceback.format_exc()
    row = trial_row(
        run.spec,
        status,
        error,
        sweep=sweep,
        attempt=run.attempt,
        started_at=started_at,
        environment=environment,
        device=run.loaded.describe_device() if run.loaded is not None else describe_devices([default_device()]),
        load_at_start=load_at_start,
        memory_start_bytes=memory_at_start,
        memory_peak_bytes=run.memory.peak(),
        sandbox_layers=run.sandbox_layers,
        resumed_from=run.resumed_from,
        identity=run.loaded.identity if run.loaded is not None else None,
        decoding=run.loaded.decoding if run.loaded is not None else None,
    )
    messages = [*run.messages, *(run.checkpoint.messages if run.checkpoint is not None else [])]
    if status != "ok":
        return TrialResult(row, messages=messages)
    return TrialResult(
        with_metrics(row, run.turns, run.samples, run.pools, run.anchors),
        turns=run.turns,
        samples=run.samples,
        fidelity=run.fidelity,
        probes=run.probes,
        kv_statistics=run.kv_statistics,
        anchors=run.anchors or [],
        messages=messages,
    )


def find_runner(name: str) -> Callable[[TrialRun], None]:
    """Return the function that a workload's ``runner`` names."""
    module, _, function = name.partition(":")
    runner: Callable[[TrialRun], None] = getattr(importlib.import_module(module), function)
    return runner
