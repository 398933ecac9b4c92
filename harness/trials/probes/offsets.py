"""``offsets``: the distribution of the anchors' offsets over layers and dimensions (figures A.4 to A.11).

The trial's agents take each question through an ordinary conversation with ``kvcomm``, in which every sample becomes a
new anchor. Each turn is prefilled densely, and the method's own code measures the offset of every placeholder and of
the text after it, with keys at local positions. For each agent, kind of segment and part the probe records, in units of
the KV itself,

``offset``  by layer, over samples, tokens, and heads and channels: ``q05``, ``q25``, ``q50``, ``q75``, ``q95``, ``rms``
``offset``  by dimension (head and channel), over samples, tokens, and all layers but 0, which has no offset: ``q05``,
            ``q50``, ``q95``, ``rms``
"""

from collections import defaultdict
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.results.measurements import KVStatistic
from harness.trials.conversation import Conversation
from harness.trials.trial_run import TrialRun
from harness.workloads.probes import OffsetsSpec
from kvcomm_core.config import KVCommConfig
from kvcomm_core.methods.kvcomm import KVComm

BY_LAYER = (0.05, 0.25, 0.5, 0.75, 0.95)
BY_DIMENSION = (0.05, 0.5, 0.95)

_COLUMNS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Place:
    """The agent, kind of segment and part to which offsets belong."""

    agent: int
    kind: str
    part: str


def run_offsets(run: TrialRun) -> None:
    """Record the statistics of all offsets, after a conversation in which every sample becomes an anchor."""
    method = hold_conversation(run).method
    assert isinstance(method, KVComm)  # noqa: S101 - whose offsets they are
    for place, samples in collect_offsets(method).items():
        for axis, summary in (("layer", by_layer(samples)), ("dimension", by_dimension(samples))):
            for statistic, values in summary.items():
                run.kv_statistics += [
                    _row(run, place, statistic, value, samples, **{axis: index}) for index, value in enumerate(values)
                ]


def _row(
    run: TrialRun,
    place: Place,
    statistic: str,
    value: float,
    samples: list[Tensor],
    *,
    layer: int | None = None,
    dimension: int | None = None,
) -> KVStatistic:
    layers, _, width = samples[0].shape
    tokens = sum(sample_LTE.shape[1] for sample_LTE in samples)
    return KVStatistic(
        trial_id=run.spec.trial_id,
        attempt=run.attempt,
        probe="offsets",
        measure="offset",
        statistic=statistic,
        value=value,
        n=tokens * (width if dimension is None else layers - 1),
        part=place.part,  # type: ignore[arg-type]
        layer=layer,
        dimension=dimension,
        agent_index=place.agent,
        kind=place.kind,  # type: ignore[arg-type]
        aligned=True if place.part == "keys" else None,
    )


def hold_conversation(run: TrialRun) -> Conversation:
    """Hold the trial's conversation to its last question, with every sample an anchor."""
    workload = run.spec.workload
    assert isinstance(workload, OffsetsSpec)  # noqa: S101 - whose runner this is
    config = KVCommConfig(max_anchors=workload.limit)
    conversation = Conversation(
        run, replace(run.spec, workload=workload.question_spec, method="kvcomm", parameters=config)
    )
    assert isinstance(conversation.method, KVComm)  # noqa: S101 - as the spec says
    conversation.method.always_learn = True
    conversation.run()
    return conversation


def collect_offsets(method: KVComm) -> dict[Place, list[Tensor]]:
    """Return, by place, the offsets of each sample and hole, ``[L, T, E]`` float32 on the CPU. E is heads times head
    size.

    Segments without tokens are left out.
    """
    found: defaultdict[Place, list[Tensor]] = defaultdict(list)
    for placeholder in method.pools:
        for anchor in method.pools[placeholder].snapshot().anchors:
            for slot, offset in anchor.offsets.items():
                for kind, kv in (("placeholder", offset.placeholder), ("text", offset.text)):
                    for part, groups in (("keys", kv.keys), ("values", kv.values)):
                        if len(kv):
                            layers = [x_LHTD.float().cpu().transpose(1, 2).flatten(2) for x_LHTD in groups]
                            found[Place(int(slot.template), kind, part)].append(torch.cat(layers))
    return dict(sorted(found.items(), key=lambda item: (item[0].agent, item[0].kind, item[0].part)))


def by_layer(samples: list[Tensor]) -> dict[str, list[float]]:
    """Return quantiles and root mean square of each layer's numbers, by name; ``samples`` are ``[L, T, E]`` each."""
    columns: list[list[float]] = []
    for layer in range(len(samples[0])):
        numbers_N1 = torch.cat([sample_LTE[layer].flatten() for sample_LTE in samples])[:, None]
        columns.append([*quantiles(numbers_N1, BY_LAYER)[:, 0].tolist(), float(numbers_N1.square().mean().sqrt())])
    return dict(zip((*map(_name, BY_LAYER), "rms"), map(list, zip(*columns, strict=True)), strict=True))


def by_dimension(samples: list[Tensor]) -> dict[str, list[float]]:
    """Return the same for each dimension in every layer but the first; nothing for a model of one layer."""
    if len(samples[0]) == 1:
        return {}
    width = samples[0].shape[2]
    found: list[list[float]] = [[] for _ in (*BY_DIMENSION, "rms")]
    for start in range(0, width, _COLUMNS_AT_ONCE):
        part = slice(start, start + _COLUMNS_AT_ONCE)
        numbers_NE = torch.cat([sample_LTE[1:, :, part].flatten(0, 1) for sample_LTE in samples])
        summary = torch.cat([quantiles(numbers_NE, BY_DIMENSION), numbers_NE.square().mean(dim=0).sqrt()[None]])
        for values, more in zip(found, summary.tolist(), strict=True):
            values += more
    return dict(zip((*map(_name, BY_DIMENSION), "rms"), found, strict=True))


def quantiles(numbers_NE: Tensor, shares: tuple[float, ...]) -> Tensor:
    """Return the quantiles of each column by linear interpolation, ``[Q, E]``. (``torch.quantile`` takes at most 16
    million numbers.)"""
    ranked_NE = numbers_NE.sort(dim=0).values
    rows = []
    for share in shares:
        place = share * (len(ranked_NE) - 1)
        below = int(place)
        above = min(below + 1, len(ranked_NE) - 1)
        rows.append(torch.lerp(ranked_NE[below], ranked_NE[above], place - below))
    return torch.stack(rows)


def _name(share: float) -> str:
    return f"q{round(100 * share):02d}"
