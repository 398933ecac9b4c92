"""Run one trial: an ordinary function from a spec and a loaded model to a result.

It knows nothing of Ray or of where it runs. A failure inside is a result with its status, not an exception.
"""

import traceback
from collections.abc import Callable
from datetime import UTC, datetime

from harness.blend import blend_device, describe_blend_device, run_blend
from harness.checkpoint import Checkpoint, Checkpoints
from harness.conversation import Conversation
from harness.environment import capture_environment, measure_load
from harness.measurements import AnchorRecord, FidelityRecord, KVStatistic, ProbeRecord
from harness.memory import MemoryMeter, is_out_of_memory
from harness.probes.contexts import run_contexts
from harness.probes.offsets import OffsetProbe
from harness.probes.proximity import run_proximity
from harness.records import SampleRecord, Status, TrialResult, TurnRecord
from harness.rows import PoolBytes, anchor_records, trial_row, with_metrics
from harness.shards import merge_shards
from harness.spec import TrialSpec
from harness.ttft import run_ttft
from harness.workloads import BlendSpec, ContextsSpec, OffsetsSpec, ProximitySpec, TtftSpec, has_conversation
from kvcomm_core.methods import Method
from kvcomm_core.methods.kvcomm import KVComm
from kvcomm_core.model import LoadedModel
from kvcomm_core.model_source import ModelError


def run_trial(
    spec: TrialSpec,
    model: LoadedModel | None,
    *,
    sweep: str = "",
    attempt: int = 1,
    on_sample: Callable[[int, int], None] | None = None,
    allow_unsafe_code: bool = False,
    checkpoints: Checkpoints | None = None,
    shard: int | None = None,
) -> TrialResult:
    """Run every item of ``spec`` through its agents, one after another, starting with empty pools; or its timing or
    probe.

    ``model`` may be None if ``spec`` needs none. ``on_sample(done, total)`` is called after each item or repeat
    of a shard. ``allow_unsafe_code``: code that the model wrote runs even where it cannot be confined. ``checkpoints``:
    where a trial on questions goes on from and writes its own. ``shard``: run this one alone, from 0, for
    ``merge_shards``; None for all of them, one after another. Only ``KeyboardInterrupt`` and its like pass through.
    """
    if shard is None and spec.shards > 1:
        results = {}
        for index in range(spec.shards):
            results[index] = run_trial(
                spec,
                model,
                sweep=sweep,
                attempt=attempt,
                on_sample=on_sample,
                allow_unsafe_code=allow_unsafe_code,
                checkpoints=checkpoints,
                shard=index,
            )
            if results[index].trial.status != "ok":
                break
        return merge_shards(spec, results, attempt)
    started_at, load_at_start = datetime.now(UTC), measure_load()
    memory = MemoryMeter([group.device for group in model.layout.groups] if model is not None else [blend_device()])
    memory_at_start = memory.now()
    environment = capture_environment()
    status: Status = "ok"
    error = None
    turns: list[TurnRecord] = []
    samples: list[SampleRecord] = []
    probes: list[ProbeRecord] = []
    fidelity: list[FidelityRecord] = []
    kv_statistics: list[KVStatistic] = []
    anchors: list[AnchorRecord] | None = None
    pools: PoolBytes | None = None
    sandbox_layers: str | None = None
    resumed_from: int | None = None
    checkpoint: Checkpoint | None = None
    try:
        if model is not None and spec.reads_text:
            model.require_chat(decodes=has_conversation(spec.workload))
        if isinstance(spec.workload, BlendSpec):
            probes = run_blend(spec, spec.workload, attempt, on_sample)
        elif model is None:
            raise ValueError(f"model is None; the workload {spec.workload.name} needs one")
        elif isinstance(spec.workload, TtftSpec):
            turns, method = run_ttft(spec, spec.workload, model, memory, attempt, on_sample)
            pools = _pool_bytes(method, model)
        elif isinstance(spec.workload, ContextsSpec):
            kv_statistics = run_contexts(spec, spec.workload, model, attempt, on_sample)
        elif isinstance(spec.workload, ProximitySpec):
            kv_statistics = run_proximity(spec, spec.workload, model, attempt, on_sample)
        elif isinstance(spec.workload, OffsetsSpec):
            probe = OffsetProbe(spec, spec.workload, model, memory, attempt, allow_unsafe_code)
            sandbox_layers = probe.sandbox_layers
            kv_statistics = probe.run(on_sample)
        else:
            conversation = Conversation(spec, spec.workload, model, memory, attempt, allow_unsafe_code, shard or 0)
            sandbox_layers = conversation.sandbox_layers
            if checkpoints is not None and checkpoints.are_possible:
                checkpoint = checkpoints.of(spec.trial_id, shard or 0, model.layout.describe())
                conversation.resume(checkpoint)
            resumed_from = len(conversation.samples)
            conversation.run(on_sample, checkpoint)
            turns, samples, fidelity = conversation.turns, conversation.samples, conversation.fidelity
            pools = _pool_bytes(conversation.method, model)
            if isinstance(conversation.method, KVComm):
                anchors = anchor_records(spec, attempt, shard or 0, conversation.method.pools)
    except ModelError as failure:  # says all there is to say
        status, error = "error", str(failure)
    except Exception as failure:  # noqa: BLE001 - a failed trial is a row, whatever failed
        status, error = "oom" if is_out_of_memory(failure) else "error", traceback.format_exc()
    row = trial_row(
        spec,
        status,
        error,
        sweep=sweep,
        attempt=attempt,
        started_at=started_at,
        environment=environment,
        device=model.describe_device() if model is not None else describe_blend_device(),
        load_at_start=load_at_start,
        memory_start_bytes=memory_at_start,
        memory_peak_bytes=memory.peak(),
        sandbox_layers=sandbox_layers,
        resumed_from=resumed_from,
        identity=model.identity if model is not None else None,
    )
    messages = checkpoint.messages if checkpoint is not None else []
    if status != "ok":
        return TrialResult(row, messages=messages)
    return TrialResult(
        with_metrics(row, turns, samples, pools, anchors),
        turns,
        samples,
        fidelity,
        probes,
        kv_statistics,
        anchors or [],
        messages,
    )


def _pool_bytes(method: Method, model: LoadedModel) -> PoolBytes | None:
    """What the anchor pools take; None for a method without any."""
    return PoolBytes.of(method.pools, model.layout.bytes_per_token) if isinstance(method, KVComm) else None
