"""blend trials: each step once per repeat, on tensors of the stated shape, computing what the engine computes."""

from dataclasses import replace

import pytest
import torch

from harness.spec import TrialSpec
from harness.trials.blend_timing import MOVED_BY, SLOT, _Bench
from harness.trials.runner import run_trial
from harness.workloads.blend import BlendSpec
from kvcomm_core.config import KVCommConfig

ANCHORS, TOKENS = 3, 5
SPEC = TrialSpec(
    model="random:smollm2-135m",
    dtype="float32",
    method="kvcomm",
    parameters=KVCommConfig(),
    workload=BlendSpec(anchors=ANCHORS, tokens=TOKENS, repeats=2),
)
TENSOR_BYTES = 30 * 3 * TOKENS * 64 * 4
"""Of the keys or the values of one placeholder."""


@pytest.mark.skipif(torch.cuda.is_available(), reason="sizes are those of float32 on a CPU")
@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (KVCommConfig(), {"match": 1 + ANCHORS / 2, "blend": 2 + 2 * ANCHORS, "copy": 2 + 2 * ANCHORS}),
        (
            KVCommConfig(placement="host"),
            {"match": 1 + ANCHORS / 2, "fetch": 2 * ANCHORS, "blend": 2 + 2 * ANCHORS, "copy": 2 + 2 * ANCHORS},
        ),
        (
            KVCommConfig(storage="int8"),
            {"match": 1 + ANCHORS / 2, "blend": 2 + ANCHORS / 2, "copy": 2 + ANCHORS / 2},
        ),
        (
            KVCommConfig(estimator="upstream"),
            {"match": 2 * (1 + ANCHORS), "blend": 2 + 2 * ANCHORS, "copy": 2 + 2 * ANCHORS},
        ),
        (KVCommConfig(estimator="mean"), {"match": 1 + ANCHORS / 2, "blend": 4, "copy": 4}),
        (KVCommConfig(estimator="mean", criterion="length"), {"blend": 4, "copy": 4}),
    ],
    ids=["l2_norm", "host", "int8", "upstream", "mean", "mean by length"],
)
def test_steps_and_their_bytes(config: KVCommConfig, expected: dict[str, float]) -> None:
    """Catches a rate of GB/s over other bytes than the step reads, a step left out, and a warm-up that is kept."""
    result = run_trial(replace(SPEC, parameters=config), None, attempt=3)
    assert result.trial.error is None
    found = [(p.trial_id, p.attempt, p.repeat, p.step, p.bytes_read) for p in result.probes]
    trial_id = replace(SPEC, parameters=config).trial_id
    assert found == [
        (trial_id, 3, repeat, step, tensors * TENSOR_BYTES) for repeat in (0, 1) for step, tensors in expected.items()
    ]
    assert all(probe.seconds > 0 for probe in result.probes)
    row = result.trial
    assert (row.n_samples, row.accuracy, row.token_reuse_rate, row.turn_reuse_rate) == (None, None, None, None)
    assert (result.turns, result.samples) == ([], [])


@torch.inference_mode()
def test_what_is_timed_is_what_the_engine_does() -> None:
    """Catches a step that is timed while doing nothing, against the formula: base plus weighted offsets, rotated."""
    assert isinstance(SPEC.workload, BlendSpec)
    assert SPEC.parameters is not None
    bench = _Bench(SPEC, SPEC.workload, replace(SPEC.parameters, estimator="nearest"))
    bench.time_steps()
    base, anchors = bench.base.kv, bench.pool.anchors
    norms = [float((base.values[0] - anchor.base_values.groups[0]).norm()) for anchor in anchors]
    nearest = anchors[norms.index(min(norms))].offsets[SLOT].placeholder
    torch.testing.assert_close(bench.room.values[0], base.values[0] + nearest.values[0])
    keys = bench.rope.move(base.keys[0] + nearest.keys[0], MOVED_BY)
    torch.testing.assert_close(bench.room.keys[0], keys)


def test_mean_does_not_grow_with_anchors() -> None:
    """Catches a ``mean`` that is timed on one term per anchor."""
    assert isinstance(SPEC.workload, BlendSpec)
    spec = replace(SPEC, parameters=KVCommConfig(estimator="mean", criterion="always"))
    sizes = set()
    for anchors in (2, 6):
        result = run_trial(replace(spec, workload=replace(SPEC.workload, anchors=anchors)), None)
        sizes |= {probe.bytes_read for probe in result.probes}
    assert len(sizes) == 1


def test_it_needs_kvcomm() -> None:
    """Catches a dense trial that times blending."""
    with pytest.raises(ValueError, match="method is 'dense'; allowed: kvcomm, with workload blend"):
        TrialSpec(workload=BlendSpec())
    for field in ("anchors", "tokens", "repeats"):
        with pytest.raises(ValueError, match=f"workload.{field} is 0; allowed: 1 or more"):
            BlendSpec(**{field: 0})
