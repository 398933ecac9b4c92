"""Anchors on the device and in host memory: the steps of a reuse turn alone, and whole turns.

The workload ``blend`` times the steps, with nothing beside them. In whole turns, offsets of what is known of the next
agent's prompt are brought to the device while the one before decodes, so that agent 3 waits for fewer than agent 1.
"""

import statistics
from collections import defaultdict

from harness.results.measurements import ProbeRecord
from harness.spec import TrialSpec
from harness.trials.runner import run_trial
from harness.workloads.blend import BlendSpec
from harness.workloads.ttft import TtftSpec
from kvcomm_core.config import KVCommConfig, Placement
from kvcomm_core.models.loading import LoadedModel
from sweeps.gpu_check.figures import Figure, FigureFile
from sweeps.gpu_check.roofs import Roofs
from sweeps.gpu_check.tables import smaller_lengths

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

    for placement in PLACEMENTS:
        turns = TrialSpec(
            model=model.name,
            method="kvcomm",
            workload=smaller_lengths(TtftSpec(anchors=ANCHORS, output_tokens=256), shrink),
            agents=3,
            parameters=KVCommConfig(max_anchors=ANCHORS, gamma=1.0, placement=placement),
        )
        result = run_trial(turns, model, sweep="gpu_check")
        if result.trial.status != "ok":
            raise RuntimeError(f"the trial ended with {result.trial.status}: {result.trial.error}")
        for agent in (1, 2, 3):
            taken = [turn for turn in result.turns if (turn.arm, turn.agent_index) == ("kvcomm", agent)]
            file.figure(
                Figure(
                    name=f"turn of agent {agent}, {ANCHORS} anchors on the {placement}",
                    seconds=statistics.median(turn.ttft_s for turn in taken),
                    samples=len(taken),
                )
            )


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
