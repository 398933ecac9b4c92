"""Conversion of a turn that the engine took into its record."""

import hashlib
import json

from harness.results.trial_result import TurnRecord
from harness.spec import TrialSpec
from kvcomm_core.fidelity import TurnFidelity
from kvcomm_core.template import TokenIds
from kvcomm_core.turn import Turn


def turn_record(
    spec: TrialSpec,
    attempt: int,
    turn: Turn,
    *,
    arm: str,
    sample_index: int,
    item_id: str,
    round: int,
    agent_index: int,
    agent_role: str,
    memory_bytes: int,
    started_us: int | None = None,
    checked: TurnFidelity | None = None,
    prompt_text: str | None = None,
    output_text: str | None = None,
) -> TurnRecord:
    """Return the record of a turn of the engine."""
    ids = turn.prompt.token_ids
    answer = checked.answer if checked else None
    continuation = checked.continuation if checked else None
    return TurnRecord(
        trial_id=spec.trial_id,
        attempt=attempt,
        arm=arm,
        sample_index=sample_index,
        item_id=item_id,
        round=round,
        agent_index=agent_index,
        agent_role=agent_role,
        mode=turn.mode,
        batch_size=turn.batch_size,
        prompt_tokens=len(ids),
        reused_tokens=turn.plan.reused_text_tokens + turn.plan.reused_placeholder_tokens,
        reused_text_tokens=turn.plan.reused_text_tokens,
        reused_placeholder_tokens=turn.plan.reused_placeholder_tokens,
        computed_prefill_tokens=turn.computed.prefill,
        computed_recompute_tokens=turn.computed.recompute,
        computed_base_kv_tokens=turn.computed.base_kv,
        computed_learning_tokens=turn.computed.learning,
        computed_tokens=turn.computed.total,
        exact_prefix_tokens=turn.exact_prefix_tokens,
        estimated_tokens=turn.plan.estimated_tokens,
        no_reuse_reason=turn.plan.no_reuse.reason if turn.plan.no_reuse else None,
        no_reuse_placeholder=turn.plan.no_reuse.placeholder if turn.plan.no_reuse else None,
        entropy_ratio=turn.plan.entropy_ratio,
        nearest_distance=turn.plan.nearest_distance,
        judged_kl=turn.plan.judged_kl,
        audit_kl=turn.audit_kl,
        output_tokens=len(turn.answer_ids),
        stop_reason=turn.stop_reason,
        started_us=started_us,
        ttft_s=turn.ttft_s,
        ttft_paper_s=turn.ttft_paper_s,
        phase_base_kv_s=turn.phases_s.get("base_kv", 0.0),
        phase_match_s=turn.phases_s.get("match", 0.0),
        phase_estimate_s=turn.phases_s.get("estimate", 0.0),
        phase_blend_s=turn.phases_s.get("blend", 0.0),
        phase_recompute_s=turn.phases_s.get("recompute", 0.0),
        phase_prefill_s=turn.phases_s["prefill"],
        phase_store_s=turn.phases_s["store"],
        decode_s=turn.decode_s,
        ttft_share_s=turn.ttft_share_s,
        decode_share_s=turn.decode_share_s,
        anchors_in_pool=turn.plan.anchors,
        pool_bytes=turn.plan.pool_bytes,
        memory_bytes=memory_bytes,
        kl_next_token=checked.next_token.kl if checked else None,
        top1_agree=checked.next_token.top1_agree if checked else None,
        kl_continuation=continuation.kl if continuation else None,
        top1_continuation=continuation.top1_share if continuation else None,
        continuation_tokens=continuation.tokens if continuation else None,
        first_divergence=answer.first_divergence if answer else None,
        greedy_agreement=answer.agreement if answer else None,
        key_cosine=checked.mean_cosine("keys") if checked else None,
        value_cosine=checked.mean_cosine("values") if checked else None,
        prompt_sha256=sha256_of_ids(ids),
        prompt_text=prompt_text,
        output_text=output_text,
    )


def bare_record(
    spec: TrialSpec,
    attempt: int,
    token_ids: TokenIds,
    seconds: float,
    *,
    sample_index: int,
    item_id: str,
    agent_index: int,
    agent_role: str,
    memory_bytes: int,
) -> TurnRecord:
    """Return the record of one forward pass over ``token_ids`` without the engine, as arm ``bare``: all of it is
    prefill."""
    return TurnRecord(
        trial_id=spec.trial_id,
        attempt=attempt,
        arm="bare",
        sample_index=sample_index,
        item_id=item_id,
        round=0,
        agent_index=agent_index,
        agent_role=agent_role,
        mode="dense",
        batch_size=1,
        prompt_tokens=len(token_ids),
        reused_tokens=0,
        reused_text_tokens=0,
        reused_placeholder_tokens=0,
        computed_prefill_tokens=len(token_ids),
        computed_recompute_tokens=0.0,
        computed_base_kv_tokens=0,
        computed_learning_tokens=0,
        computed_tokens=float(len(token_ids)),
        estimated_tokens=0,
        output_tokens=0,
        stop_reason="given",
        ttft_s=seconds,
        ttft_paper_s=seconds,
        phase_base_kv_s=0.0,
        phase_match_s=0.0,
        phase_estimate_s=0.0,
        phase_blend_s=0.0,
        phase_recompute_s=0.0,
        phase_prefill_s=seconds,
        phase_store_s=0.0,
        decode_s=0.0,
        memory_bytes=memory_bytes,
        prompt_sha256=sha256_of_ids(token_ids),
    )


def sha256_of_ids(token_ids: TokenIds) -> str:
    """Return a digest that identifies a prompt: equal for equal token ids."""
    return hashlib.sha256(json.dumps(token_ids).encode()).hexdigest()
