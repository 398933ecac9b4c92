"""Run a ``blend`` trial: time matching and blending, and a plain copy of the same bytes for comparison.

The KV of one placeholder of T tokens and of A anchors is random. It has the shape ``[L, H, T, D]`` of the model's KV,
with every tensor in memory of its own. Each repeat times these steps, from and to an idle device:

``match``  distances of the sample to the anchors, the criterion, and the estimator's weights (paper, Eq. 5)
``fetch``  offsets brought to the device; only with ``kvcomm.placement: host``
``blend``  base KV plus weighted offsets, keys rotated, written to the prompt's KV (Eq. 6)
``copy``   every tensor that ``blend`` reads, copied once: the minimum cost of this much memory traffic

The ``mean`` estimator has one running mean as its offset, and no weights. The mean covers all anchors and is built
beforehand.
"""

import torch
from torch import Tensor

from harness.memory import default_device
from harness.results.measurements import ProbeRecord, Step
from harness.spec import TrialSpec
from harness.trials.trial_run import TrialRun
from harness.workloads.blend import BlendSpec
from kvcomm_core.anchors import Anchor
from kvcomm_core.blending import Term, place
from kvcomm_core.config import KVCommConfig
from kvcomm_core.criteria import judge, measure_distances
from kvcomm_core.estimators import Weight, weigh
from kvcomm_core.kv import KV, KVBuffer, KVLayout, LayerGroup
from kvcomm_core.models.loading import choose_dtype
from kvcomm_core.models.model_source import kv_shape
from kvcomm_core.packed import PackedKV, pack
from kvcomm_core.rope import Rope
from kvcomm_core.running_means import MeanKV
from kvcomm_core.timing import Stopwatch

MOVED_BY = 1000
"""Number of positions by which keys are moved; any number but 0 costs the same."""


@torch.inference_mode()
def run_blend(run: TrialRun) -> None:
    """Record the probes of all repeats, after one that is discarded."""
    spec, workload = run.spec, run.spec.workload
    assert isinstance(workload, BlendSpec)  # noqa: S101 - whose runner this is
    assert spec.kvcomm is not None  # noqa: S101 - BlendSpec has seen to it
    bench = _Bench(spec, workload, spec.kvcomm)
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
    """The tensors of one trial, and its steps."""

    def __init__(self, spec: TrialSpec, workload: BlendSpec, config: KVCommConfig) -> None:
        layers, heads, head_dim = kv_shape(spec.model)
        self.config = config
        self.device = default_device()
        dtype = choose_dtype(spec.dtype, self.device.type)
        layout = KVLayout((LayerGroup(self.device, layers),), heads, head_dim, dtype)
        self.rope = Rope(tuple(10000.0 ** (-2 * pair / head_dim) for pair in range(head_dim // 2)))
        self.room = KVBuffer(layout, rows=1, capacity=workload.tokens).view(0, workload.tokens)

        generator = torch.Generator(self.device).manual_seed(spec.seed)
        shape = (layers, heads, workload.tokens, head_dim)

        def draw() -> tuple[Tensor]:
            return (torch.randn(shape, generator=generator, device=self.device, dtype=dtype),)

        self.base = KV(draw(), draw())
        self.anchors: list[Anchor] = []
        if config.compares_samples:
            for _ in range(workload.anchors):
                self.anchors.append(Anchor((), draw(), {}, draw() if config.compares_keys else ()))
        self.mean: MeanKV | None = None
        self.offsets: list[PackedKV] = []
        if config.estimator == "mean":
            self.mean = MeanKV.of(KV(draw(), draw()), min_samples=1)
            for _ in range(1, workload.anchors):
                self.mean = self.mean.updated(KV(draw(), draw()), min_samples=1)
        else:
            for _ in range(workload.anchors):
                self.offsets.append(pack(KV(draw(), draw()), config.storage, config.placement))

    def time_steps(self) -> list[tuple[Step, float, int]]:
        """Yield each step with its seconds and the bytes it must read."""
        steps: list[tuple[Step, float, int]] = []
        weights: list[Weight] = [1.0]
        if self.anchors:
            stopwatch = Stopwatch(self.device)
            distances = measure_distances(self.base.values, [anchor.base_values for anchor in self.anchors])
            judge(self.config, distances)
            if self.mean is None:
                weights = weigh(self.base, self.anchors, distances, self.config).placeholder
            compared = [self.base.values, *(part for one in self.anchors for part in (one.base_values, one.base_keys))]
            compared += [self.base.keys] if self.config.compares_keys else []
            steps.append(("match", stopwatch.seconds(), _nbytes(compared)))
        offsets = self.offsets
        if self.config.placement == "host" and self.mean is None:
            stopwatch = Stopwatch(self.device)
            offsets = [offset.fetch() for offset in offsets]
            steps.append(("fetch", stopwatch.seconds(), sum(offset.nbytes for offset in offsets)))

        if self.mean is not None:
            terms, read = [Term(self.mean, 1.0)], [self.mean.keys, self.mean.values]
        else:
            terms = [Term(offset, weight) for offset, weight in zip(offsets, weights, strict=True)]
            read = [part for offset in offsets for part in (offset.keys, offset.values)]
        read += [self.base.keys, self.base.values]
        stopwatch = Stopwatch(self.device)
        place(self.base, terms, self.room, self.rope, MOVED_BY)
        steps.append(("blend", stopwatch.seconds(), _nbytes(read)))

        room = {tensor.dtype: torch.empty_like(tensor) for part in read for tensor in part}
        for tensor in room.values():
            tensor.zero_()  # fresh memory costs a page fault every 4 KiB
        stopwatch = Stopwatch(self.device)
        for part in read:
            for tensor in part:
                room[tensor.dtype].copy_(tensor)
        steps.append(("copy", stopwatch.seconds(), _nbytes(read)))
        return steps


def _nbytes(parts: list[tuple[Tensor, ...]]) -> int:
    return sum(tensor.nbytes for part in parts for tensor in part)
