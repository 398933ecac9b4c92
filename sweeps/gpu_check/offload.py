"""Matching and blending with anchors on the device and in host memory, as the workload ``blend`` times them."""

import statistics
from collections import defaultdict

from harness.results.measurements import ProbeRecord
from harness.spec import TrialSpec
from harness.trials.runner import run_trial
from harness.workloads.blend import BlendSpec
from kvcomm_core.config import KVCommConfig, Placement
from kvcomm_core.models.loading import LoadedModel
from sweeps.gpu_check.figures import Figure, FigureFile
from sweeps.gpu_check.roofs import Roofs

ANCHORS, TOKENS, REPEATS = 20, 1024, 5
PLACEMENTS: tuple[Placement, ...] = ("device", "host")


def offload(model: LoadedModel, roofs: Roofs, file: FigureFile, shrink: int) -> None:
    """Time the steps of a reuse turn for one placeholder of ``TOKENS / shrink`` tokens, for each placement."""
    for placement in PLACEMENTS:
        trial = TrialSpec(
            model=model.name,
            method="kvcomm",
            workload=BlendSpec(anchors=ANCHORS, tokens=max(1, TOKENS // shrink), repeats=REPEATS),
            parameters=KVCommConfig(max_anchors=ANCHORS, placement=placement),
        )
        result = run_trial(trial, None, sweep="gpu_check")
        if result.trial.status != "ok":
            raise RuntimeError(f"the trial ended with {result.trial.status}: {result.trial.error}")
        steps: defaultdict[str, list[ProbeRecord]] = defaultdict(list)
        for probe in result.probes:
            steps[probe.step].append(probe)
        for step, probes in steps.items():
            file.figure(_figure(step, placement, probes, roofs))


def _figure(step: str, placement: Placement, probes: list[ProbeRecord], roofs: Roofs) -> Figure:
    moved = probes[0].bytes_read
    over_link = placement == "host" and step in ("match", "fetch")
    rate = roofs.host_bytes_per_s if over_link else roofs.bytes_per_s
    written = moved // (ANCHORS + 1) if step == "blend" else moved if step == "copy" else 0
    return Figure(
        name=f"{step}, {ANCHORS} anchors on the {placement}",
        seconds=statistics.median(probe.seconds for probe in probes),
        samples=len(probes),
        roof_s=None if rate is None else (moved if over_link else moved + written) / rate,
        bound="host link" if over_link else "memory",
        note=f"{moved / 1e9:.3f} GB read",
    )
