"""Run a ``blend`` trial: time the steps of ``kvcomm`` alone, and a plain copy of the same bytes for comparison.

The KV of one placeholder of T tokens and of A anchors is random. It has the shape ``[L, H, T, D]`` of the model's KV,
with every tensor in memory of its own. Each repeat times these steps, the functions that a turn calls, from and to an
idle device:

``match``  distances of the sample to the anchors, the criterion, and the estimator's weights (paper, Eq. 5)
``fetch``  offsets brought to the device; only with ``kvcomm.placement: host``
``blend``  base KV plus weighted offsets, keys rotated, written to the prompt's KV (Eq. 6)
``copy``   every tensor that ``blend`` reads, copied once: the minimum cost of this much memory traffic

The ``mean`` estimator has one running mean as its offset, and no weights. The mean covers all anchors and is built
beforehand.
"""

from dataclasses import replace

import torch
from torch import Tensor

from harness.memory import default_device
from harness.results.measurements import ProbeRecord, Step
from harness.spec import TrialSpec
from harness.trials.trial_run import TrialRun
from harness.workloads.blend import BlendSpec
from kvcomm_core.blending import place
from kvcomm_core.config import KVCommConfig
from kvcomm_core.kv import KV, KVBuffer, KVLayout, LayerGroup
from kvcomm_core.methods.hole_estimate import estimate_hole
from kvcomm_core.methods.matching import Match, match
from kvcomm_core.models.loading import choose_dtype
from kvcomm_core.models.model_source import kv_shape
from kvcomm_core.packed import PackedKV, pack
from kvcomm_core.pools.anchor_pools import PoolSnapshot
from kvcomm_core.pools.anchors import Anchor, Offset, Slot
from kvcomm_core.pools.running_means import MeanKV, MeanOffset
from kvcomm_core.rope import Rope
from kvcomm_core.segments import BaseKV
from kvcomm_core.stopwatch import Stopwatch

MOVED_BY = 1000
"""Number of positions by which keys are moved; any number but 0 costs the same."""

SLOT = Slot("agent", 0)


@torch.inference_mode()
def run_blend(run: TrialRun) -> None:
    """Record the probes of all repeats, after one that is discarded."""
    spec, workload = run.spec, run.spec.workload
    assert isinstance(workload, BlendSpec)  # noqa: S101 - whose runner this is
    assert isinstance(spec.parameters, KVCommConfig)  # noqa: S101 - BlendSpec has seen to it
    bench = _Bench(spec, workload, spec.parameters)
    bench.time_steps()
    for repeat in range(workload.repeats):
        run.probes += [
            ProbeRecord(
                trial_id=spec.trial_id,
                attempt=run.attempt,
                repeat=repeat,
                step=step,
                seconds=seconds,
                bytes_read=bytes_read,
            )
            for step, seconds, bytes_read in bench.time_steps()
        ]
        run.done(repeat + 1, workload.repeats)


class _Bench:
    """The sample and the pool of one trial, and the steps from one to the other."""

    def __init__(self, spec: TrialSpec, workload: BlendSpec, config: KVCommConfig) -> None:
        layers, heads, head_dim = kv_shape(spec.model)
        # A random sample is unlike every anchor; these settings, which cost no time, accept it.
        self.config = replace(config, gamma=1.0, min_anchors=1)
        self.device = default_device()
        dtype = choose_dtype(spec.dtype, self.device.type)
        layout = KVLayout((LayerGroup(self.device, layers),), heads, head_dim, dtype)
        self.rope = Rope((tuple(10000.0 ** (-2 * pair / head_dim) for pair in range(head_dim // 2)),))
        self.room = KVBuffer(layout, rows=1, capacity=workload.tokens).view(0, workload.tokens)

        generator = torch.Generator(self.device).manual_seed(spec.seed)
        shape = (layers, heads, workload.tokens, head_dim)

        def draw() -> KV:
            keys, values = (torch.randn(shape, generator=generator, device=self.device, dtype=dtype) for _ in range(2))
            return KV((keys,), (values,))

        self.base = BaseKV((0,) * workload.tokens, draw(), origin=0)
        anchors: list[Anchor] = []
        mean: MeanKV | None = None
        for number in range(1, workload.anchors + 1):
            offset = draw()
            if config.estimator == "mean":
                mean = MeanKV.of(offset, 1) if mean is None else mean.updated(offset, 1)
                offsets = {}
            else:
                packed, nothing = (pack(kv, config.storage, config.placement) for kv in (offset, offset.slice(0, 0)))
                offsets = {SLOT: Offset(packed, nothing)}
            anchors.append(Anchor.of((number,) * workload.tokens, draw(), offsets, config))
        self.pool = PoolSnapshot(tuple(anchors), {} if mean is None else {SLOT: MeanOffset(mean, mean)})

    def time_steps(self) -> list[tuple[Step, float, int]]:
        """Take the steps of a reuse turn of ``kvcomm``. Return each with its seconds and the bytes it must read."""
        steps: list[tuple[Step, float, int]] = []
        stopwatch = Stopwatch([self.device])
        found = match(self.base, self.pool, self.config)
        assert isinstance(found, Match)  # noqa: S101 - any sample is accepted
        estimate = estimate_hole(SLOT, found, self.base, self.pool, self.config)
        if self.config.compares_samples:
            compared = [self.base.kv.values, *(anchor.base_values.groups for anchor in self.pool.anchors)]
            if self.config.compares_keys:
                compared += [self.base.kv.keys, *(anchor.base_keys for anchor in self.pool.anchors)]
            steps.append(("match", stopwatch.seconds(), _nbytes(compared)))
        offsets = [term.offset for term in estimate.placeholder if isinstance(term.offset, PackedKV | MeanKV)]
        if self.config.placement == "host" and self.config.estimator != "mean":
            stopwatch = Stopwatch([self.device])
            estimate = estimate.fetch()
            steps.append(("fetch", stopwatch.seconds(), sum(offset.nbytes for offset in offsets)))
        stopwatch = Stopwatch([self.device])
        place(self.base.kv, estimate.placeholder, self.room, self.rope, MOVED_BY)
        read = [part for offset in offsets for part in (offset.keys, offset.values)]
        read += [self.base.kv.keys, self.base.kv.values]
        steps.append(("blend", stopwatch.seconds(), _nbytes(read)))

        room = {tensor.dtype: torch.empty_like(tensor) for part in read for tensor in part}
        for tensor in room.values():
            tensor.zero_()  # fresh memory costs a page fault every 4 KiB
        stopwatch = Stopwatch([self.device])
        for part in read:
            for tensor in part:
                room[tensor.dtype].copy_(tensor)
        steps.append(("copy", stopwatch.seconds(), _nbytes(read)))
        return steps


def _nbytes(parts: list[tuple[Tensor, ...]]) -> int:
    return sum(tensor.nbytes for part in parts for tensor in part)
