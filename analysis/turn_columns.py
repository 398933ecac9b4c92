"""Which columns of turns identify, time and compare them.

A turn has 67 columns, and each of them costs time whenever rows are chosen or joined.
"""

from harness.results.arrow_schemas import SCHEMAS

TURN = ("sample_index", "item_id", "round", "agent_index")
"""Columns that identify the same turn of a trial in both arms."""

_SHARES = ("ttft_share_s", "decode_share_s")
TIMES = ("ttft_s", "decode_s", "phase_store_s", "phase_publish_s", "batch_size", "stop_reason", *_SHARES)
"""Columns that the times of a turn, and of a conversation, are made of."""

BESIDE = (*TIMES, "prompt_sha256", "letter_logprobs_json")
"""Columns of the baseline's turn that ``Arm.beside`` joins."""

_OURS = {"trial_id", *TURN, "arm", "mode", "no_reuse_reason", "estimated_tokens", "prompt_tokens", *BESIDE}
NOT_BESIDE = frozenset(SCHEMAS["turns"].names) - _OURS
"""Columns of a turn's record that ``Arm.beside`` leaves out."""

UNREAD = frozenset(
    {
        *("reused_text_tokens", "reused_placeholder_tokens"),
        *(
            "computed_prefill_tokens",
            "computed_recompute_tokens",
            "computed_base_kv_tokens",
            "computed_learning_tokens",
        ),
        *("judged_kl", "audit_kl", "continuation_tokens", "first_divergence", "grade_rule", "tool_s"),
        *("attempt", "started_us", "ttft_paper_s", "pool_bytes", "memory_bytes"),
    }
)
"""Columns of turns that no table or figure of an arm reads: arms lack them."""
