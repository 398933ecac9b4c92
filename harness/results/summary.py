"""Rows of the ``trials``, ``fidelity`` and ``anchors`` tables, built from a trial's events. Loads no torch."""

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from harness.environment import Environment, MachineLoad, measure_load
from harness.redaction import redact
from harness.results.measurements import AnchorRecord, FidelityRecord
from harness.results.rates import accuracy, is_correct, token_reuse_rate, turn_reuse_rate
from harness.results.trial_result import SampleRecord, Status, TrialResult, TrialRow, TurnRecord
from harness.spec import TrialSpec

if TYPE_CHECKING:
    from kvcomm_core.fidelity import SegmentFidelity
    from kvcomm_core.models.proof import ModelIdentity
    from kvcomm_core.pools.anchor_pools import AnchorPools


@dataclass(frozen=True, slots=True)
class PoolBytes:
    """Bytes of anchor pools."""

    by_placeholder: dict[str, int]
    public_layout: int
    """Bytes that the public code's layout would take for the same anchors."""

    @classmethod
    def of(cls, pools: "AnchorPools", bytes_per_token: int) -> "PoolBytes":
        """Measure the pools of a model whose KV takes ``bytes_per_token``."""
        return cls(pools.nbytes_by_placeholder, pools.public_layout_nbytes(bytes_per_token))


def failed_result(
    spec: TrialSpec,
    status: Status,
    error: str,
    *,
    sweep: str,
    attempt: int,
    started_at: datetime,
    environment: Environment,
    device: str | None = None,
) -> TrialResult:
    """Return the result of a trial that did not finish: a row with the reason, no turns and no samples."""
    return TrialResult(
        trial_row(
            spec,
            status,
            error,
            sweep=sweep,
            attempt=attempt,
            started_at=started_at,
            environment=environment,
            device=device,
        )
    )


def trial_row(
    spec: TrialSpec,
    status: Status,
    error: str | None,
    *,
    sweep: str,
    attempt: int,
    started_at: datetime,
    environment: Environment,
    device: str | None,
    load_at_start: MachineLoad | None = None,
    memory_start_bytes: int | None = None,
    memory_peak_bytes: int | None = None,
    sandbox_layers: str | None = None,
    resumed_from: int | None = None,
    identity: "ModelIdentity | None" = None,
    decoding: str | None = None,
) -> TrialRow:
    """Return the row of an attempt that ends now, with unknown metrics; the replica sets ``exclusive``."""
    now = measure_load()
    return TrialRow(
        trial_id=spec.trial_id,
        sweep=sweep,
        status=status,
        error=redact(error) if error is not None else None,
        attempt=attempt,
        resumed_from=resumed_from,
        model=spec.model,
        method=spec.method,
        workload=spec.workload.name,
        topology=spec.topology,
        agents=spec.agents,
        rounds=spec.rounds,
        seed=spec.seed,
        spec_json=json.dumps(spec.to_dict(), sort_keys=True),
        n_samples=None,
        n_correct=None,
        accuracy=None,
        token_reuse_rate=None,
        turn_reuse_rate=None,
        kl_mean=None,
        top1_rate=None,
        greedy_agreement_mean=None,
        pool_bytes_max=None,
        pool_bytes_by_placeholder=None,
        sandbox_layers=sandbox_layers,
        pool_bytes_public_layout=None,
        anchors_at_end=None,
        memory_start_bytes=memory_start_bytes,
        memory_peak_bytes=memory_peak_bytes,
        exclusive=False,
        load_average_start=load_at_start.average if load_at_start else None,
        load_average_end=now.average if load_at_start else None,
        others_cpu_s=now.others_since(load_at_start) if load_at_start else None,
        started_at=started_at,
        ended_at=datetime.now(UTC),
        host=environment.host,
        device=device,
        model_commit=identity.commit if identity else None,
        weights_digest=identity.weights_digest if identity else None,
        tokenizer_digest=identity.tokenizer_digest if identity else None,
        template_digest=identity.template_digest if identity else None,
        quantisation=identity.quantisation if identity else None,
        decoding=decoding,
        git_commit=environment.git_commit,
        git_dirty=environment.git_dirty,
        env_json=environment.to_json(),
    )


def with_metrics(
    row: TrialRow,
    turns: Sequence[TurnRecord],
    samples: Sequence[SampleRecord],
    pools: PoolBytes | None,
    anchors: Sequence[AnchorRecord] | None,
) -> TrialRow:
    """Return ``row`` with the metrics of its turns and samples and of the method's pools at the end. Metrics without
    data stay unknown."""
    own = [turn for turn in turns if turn.arm == row.method]
    outcomes = [sample.outcome for sample in samples]
    at_end = None if pools is None else sum(pools.by_placeholder.values())
    pool_bytes = [size for size in (*(turn.pool_bytes for turn in turns), at_end) if size is not None]
    return dataclasses.replace(
        row,
        n_samples=len(samples) or None,
        n_correct=sum(map(is_correct, outcomes)) if any(outcomes) else None,
        accuracy=accuracy(outcomes),
        token_reuse_rate=token_reuse_rate((t.reused_tokens for t in own), (t.prompt_tokens for t in own)),
        exact_prefix_rate=_rate([turn.exact_prefix_tokens for turn in own], [turn.prompt_tokens for turn in own]),
        estimated_rate=_rate([turn.estimated_tokens for turn in own], [turn.prompt_tokens for turn in own]),
        computed_tokens=_sum([turn.computed_tokens for turn in own]),
        no_reuse_json=_no_reuse(own),
        turn_reuse_rate=turn_reuse_rate(turn.mode for turn in own),
        kl_mean=_mean([turn.kl_next_token for turn in own]),
        top1_rate=_mean([turn.top1_agree for turn in own]),
        kl_continuation_mean=_mean([turn.kl_continuation for turn in own]),
        top1_continuation_mean=_mean([turn.top1_continuation for turn in own]),
        greedy_agreement_mean=_mean([turn.greedy_agreement for turn in own]),
        energy_j=_sum([sample.energy_j for sample in samples]),
        pool_bytes_max=max(pool_bytes, default=None),
        pool_bytes_by_placeholder=None if pools is None else json.dumps(pools.by_placeholder, sort_keys=True),
        pool_bytes_public_layout=None if pools is None else pools.public_layout,
        anchors_at_end=None if anchors is None else len(anchors),
    )


def fidelity_records(turn: TurnRecord, segments: "Sequence[SegmentFidelity]") -> list[FidelityRecord]:
    """Return the rows of ``fidelity`` for one turn."""
    return [
        FidelityRecord(
            trial_id=turn.trial_id,
            attempt=turn.attempt,
            sample_index=turn.sample_index,
            agent_index=turn.agent_index,
            round=turn.round,
            layer=segment.layer,
            kind=segment.kind,
            part=segment.part,
            cosine=segment.cosine,
            l2_error=segment.l2_error,
            tokens=segment.tokens,
        )
        for segment in segments
    ]


def anchor_records(spec: TrialSpec, attempt: int, shard: int, pools: "AnchorPools") -> list[AnchorRecord]:
    """Return the rows of ``anchors`` for the pools' current content."""
    return [
        AnchorRecord(
            trial_id=spec.trial_id,
            attempt=attempt,
            placeholder=placeholder,
            shard=shard,
            age_rank=rank,
            tokens=len(anchor),
            # Templates of later rounds are named "<agent> later".
            readers=" ".join(sorted({slot.template.split()[0] for slot in anchor.offsets}, key=int)) or None,
            activations=activations,
            weight=weight,
        )
        for placeholder, state in sorted(pools.state().items())
        for rank, (anchor, activations, weight) in enumerate(
            zip(state.anchors, state.activations, state.uses, strict=True)
        )
    ]


def _no_reuse(turns: Sequence[TurnRecord]) -> str | None:
    """Return the number of turns that did not reuse, by reason; None for a method without pools."""
    if not any(turn.anchors_in_pool is not None for turn in turns):
        return None
    counts = Counter(turn.no_reuse_reason for turn in turns if turn.no_reuse_reason is not None)
    return json.dumps(counts, sort_keys=True)


def _rate(parts: Sequence[int | None], wholes: Sequence[int]) -> float | None:
    """Return the sum of the parts over that of the wholes; None if a part is unknown, or there are none."""
    total = _sum(parts)
    return None if total is None else total / sum(wholes)


def _sum(values: Sequence[float | None]) -> float | None:
    """Return the sum of values that are all known; None if one is not, or there are none."""
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the known values; None if none is known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
