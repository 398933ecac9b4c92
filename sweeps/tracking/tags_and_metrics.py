"""The fields of our records that MLflow shows: metrics, tags, and the columns of a run's tables."""

METRICS = (
    "n_samples",
    "n_correct",
    "exact_prefix_rate",
    "estimated_rate",
    "computed_tokens",
    "top1_rate",
    "pool_bytes_max",
    "pool_bytes_public_layout",
    "memory_peak_bytes",
)
"""Fields of a trial's row that become metrics, unless unknown. ``comparisons.ESTIMATES`` has those with an
interval."""

TAGS = (
    "attempt",
    "status",
    "sweep",
    "model",
    "method",
    "workload",
    "host",
    "device",
    "model_commit",
    "weights_digest",
    "tokenizer_digest",
    "template_digest",
    "git_commit",
)
"""Fields of a trial's row that become tags, prefixed with ``kvcomm.``."""

MODEL_TAGS = ("model", "model_commit", "weights_digest", "tokenizer_digest", "template_digest", "quantisation")
"""Fields of a trial's row that describe its model."""

SAMPLE_COLUMNS = ("sample_index", "item_id", "outcome", "extracted", "expected", "answer_text", "latency_s", "energy_j")
TURN_COLUMNS = (
    "sample_index",
    "item_id",
    "round",
    "agent_index",
    "agent_role",
    "arm",
    "mode",
    "prompt_tokens",
    "reused_tokens",
    "exact_prefix_tokens",
    "no_reuse_reason",
    "no_reuse_placeholder",
    "output_tokens",
    "ttft_s",
    "ttft_paper_s",
    "decode_s",
)
