"""The results of a trial: one TurnRecord per agent turn, one SampleRecord per item, one TrialResult around them.

A timing has no samples. ``measurements.py`` defines the measurements beside the turns.

The dataclasses are the schema: a column of a Parquet file is a field here or there (``arrow_schemas.py``). Unknown is
None, never 0. Times are seconds, sizes bytes, rates 0 to 1. Text becomes storable as it enters a record (``text.py``).
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from harness.results.measurements import AnchorRecord, FidelityRecord, KVStatistic, ProbeRecord
from harness.text import Storable
from harness.workloads.base import Outcome
from kvcomm_core.config import NoReuseReason

Status = Literal["ok", "error", "oom", "timeout", "killed"]
Mode = Literal["dense", "reuse", "partial"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRecord(Storable):
    """One agent turn: the prompt, the answer, how the prompt's KV was obtained and how long the turn took."""

    trial_id: str
    attempt: int
    arm: str
    """The arm that took the turn: the trial's method, or in a ``ttft`` trial also ``dense`` (the engine without
    reuse) and ``bare`` (one forward pass of the model, no engine) on prompts of the same length."""
    sample_index: int
    """Position of the item in the trial's order, from 0; in a ``ttft`` trial the repeat."""
    item_id: str
    round: int
    """Round, from 0."""
    agent_index: int
    """The agent's id, from 1; the last is the decision agent."""
    agent_role: str
    mode: Mode
    """``dense`` if the whole prompt was prefilled, ``reuse`` if all but its last token came from caches, ``partial``
    if some of it did."""
    batch_size: int
    """Number of turns under way when this one began; those of a batch in step share their times."""
    prompt_tokens: int
    reused_tokens: int
    """Prompt tokens whose KV was not computed in this turn. Base KV of new placeholders counts as computed."""
    reused_text_tokens: int
    """Reused tokens that lie in fixed text segments."""
    reused_placeholder_tokens: int
    """Reused tokens that lie in placeholders."""
    computed_prefill_tokens: int | None = None
    """Prompt tokens that the engine ran through the model in order, the last token always among them."""
    computed_recompute_tokens: float | None = None
    """Prompt tokens recomputed inside an assembled prompt; one that ran through k of L layers counts k/L."""
    computed_base_kv_tokens: int | None = None
    """Tokens prefilled alone for base KV of new placeholders, before the first token."""
    computed_learning_tokens: int | None = None
    """Tokens run after the first token only because the method learns from them."""
    computed_tokens: float | None = None
    """The sum of these four."""
    exact_prefix_tokens: int | None = None
    """Prompt tokens that an exact prefix cache would have reused: the longest prefix, at most all but the last token,
    shared with any template's leading text or with an earlier prompt and answer of the same item."""
    estimated_tokens: int | None = None
    """Prompt tokens whose KV was taken over from another context and not recomputed; the exact leading text does not
    count."""
    no_reuse_reason: NoReuseReason | None = None
    """Why a turn of a method with pools did not reuse everything: its pool was ``cold``, the sample ``too_long`` or
    ``refused`` by the criterion, or an anchor lacks this agent's offset (``slot_unmet``). None if it did, and for
    methods without pools."""
    no_reuse_placeholder: str | None = None
    """The first placeholder, in prompt order, to which that reason applies."""
    entropy_ratio: float | None = None
    """H(w) / log|A| of the criterion, the largest over the turn's placeholders judged by entropy."""
    nearest_distance: float | None = None
    """Relative distance of the nearest candidate anchor, the largest over the turn's placeholders."""
    judged_kl: float | None = None
    """KL, in nats, that a criterion for whole turns compared with ``max_kl``: predicted (``calibrated``), between
    rotation alone and the estimate (``gated``), or true (``oracle``). None without one."""
    audit_kl: float | None = None
    """KL(dense || reuse) of the next token, in nats, that the method itself measured after the answer, with tokens that
    count as computed for learning; None if it did not."""
    output_tokens: int
    stop_reason: Literal["eos", "length", "given"]
    started_us: int | None = None
    """Microseconds from 1970, UTC, to the moment when the inputs of the turn were known; None in a timing, and in
    results from before it was recorded."""
    ttft_s: float
    """Seconds from 'the inputs of this turn are known' to 'the first token id is on the host', everything included."""
    ttft_paper_s: float
    """``ttft_s`` as the paper counts it: without base KV of new placeholders and without the shareability test."""
    phase_base_kv_s: float
    phase_match_s: float
    """The shareability test."""
    phase_estimate_s: float | None = None
    """Blending weights, and offsets fetched from the host. Results from before identity version 3 count it in
    ``phase_match_s``."""
    phase_blend_s: float
    phase_recompute_s: float
    """Recomputing single tokens of an otherwise reused prompt."""
    phase_prefill_s: float
    phase_store_s: float
    """Storing offsets in new anchors. It comes after the first token, so it is not part of ``ttft_s``."""
    phase_publish_s: float | None = None
    """Publishing what the item taught, at its end; on the item's last turn only. Not part of ``ttft_s`` either."""
    decode_s: float
    """Seconds from the first token id to the last."""
    ttft_share_s: float | None = None
    """The turn's part of ``ttft_s``: work for several turns counts for each by its tokens. None for turns in step."""
    decode_share_s: float | None = None
    """The same of ``decode_s``."""
    anchors_in_pool: int | None = None
    """Anchors in all pools that this turn could use; None for methods without pools."""
    pool_bytes: int | None = None
    """Bytes of all pools when the turn's request began; None for methods without pools."""
    memory_bytes: int
    """Memory in use after the turn: torch's allocations on the GPUs, else the resident memory of the process."""
    kl_next_token: float | None = None
    """KL(dense || this) of the next-token distribution after the same prompt, in nats; None if not checked."""
    top1_agree: bool | None = None
    """Whether both rank the same token first; None if not checked."""
    kl_continuation: float | None = None
    """KL(dense || this) in nats, averaged over the first tokens of dense's greedy answer to the same prompt, which both
    are made to continue with; None if not compared."""
    top1_continuation: float | None = None
    """Share of these tokens at which both rank the same token first; None if not compared."""
    continuation_tokens: int | None = None
    """Number of these tokens, the end-of-sequence token included, 1 to 32; None if not compared."""
    first_divergence: int | None = None
    """Index of the first token at which the answer leaves dense's greedy answer to the same prompt; None if the two
    are equal (``greedy_agreement`` 1) or were not compared."""
    greedy_agreement: float | None = None
    """Positions at which the two answers have the same token, divided by the length of the longer one; None if not
    compared."""
    key_cosine: float | None = None
    """Cosine similarity of the prompt's keys with dense's, averaged over layers and over the tokens after the
    leading text (see ``FidelityRecord``); None if not checked."""
    value_cosine: float | None = None
    """The same for its values."""
    prompt_sha256: str
    prompt_text: str | None = None
    """None where the prompt consists of random tokens."""
    output_text: str | None = None
    """None where the answer consists of random tokens, or there is none."""
    outcome: Outcome | None = None
    """The grade of this answer, as if it were the final one; None where answers are not graded."""
    extracted: str | None = None
    grade_rule: str | None = None
    letter_logprobs_json: str | None = None
    """Log-probabilities that the answer's first token is each candidate's letter, as a JSON object; else None."""
    template: str | None = None
    """In a replayed log, the template by which the method took the turn; None if it had none and was taken dense, and
    for every other workload."""
    tool: str | None = None
    """The tool called with the answer; None if there is none, or nobody reads its result."""
    tool_outcome: str | None = None
    tool_text: str | None = None
    """The tool's result, which the agents that read the answer read after it."""
    tool_s: float | None = None
    """Seconds that the call took, with the calls of a batch side by side; not part of any other time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRecord(Storable):
    """One item: the decision agent's answer and its grade."""

    trial_id: str
    attempt: int
    sample_index: int
    item_id: str
    answer_text: str
    extracted: str | None
    expected: str
    outcome: Outcome | None
    """None if answers are not graded."""
    grade_rule: str
    latency_s: float
    """Time to first token, decoding, storing and publishing, summed over the item's turns."""
    ttft_sum_s: float | None = None
    """Time to first token summed over the item's turns."""
    decode_sum_s: float | None = None
    """Seconds from the first token id to the last, summed over the same turns."""
    energy_j: float | None = None
    """Joules that the model's GPUs used for the item's batch or wave, divided by its items: without tools, grading and
    checks of fidelity, with idle power (``harness/energy.py``). None where no GPU tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRow(Storable):
    """One row of ``trials``: the summary of one attempt, finished or failed."""

    trial_id: str
    sweep: str
    status: Status
    error: str | None
    """The reason, with traceback where there is one; None if ``ok``."""
    attempt: int
    """Attempt, from 1."""
    resumed_from: int | None
    """Samples that came from a checkpoint of an earlier attempt; 0 if none did, None if the attempt stopped before
    that or the trial is a timing. The times of the row are those of this attempt alone. The times of turns and
    samples are those of the attempt that took them."""
    model: str
    method: str
    workload: str
    topology: str
    agents: int
    rounds: int
    seed: int
    spec_json: str
    n_samples: int | None
    n_correct: int | None
    accuracy: float | None
    token_reuse_rate: float | None
    """Reused prompt tokens divided by prompt tokens, over all turns that the trial's method took."""
    exact_prefix_rate: float | None = None
    """``exact_prefix_tokens`` divided by prompt tokens, over the same turns."""
    estimated_rate: float | None = None
    """``estimated_tokens`` divided by prompt tokens, over the same turns."""
    computed_tokens: float | None = None
    """Sum of ``computed_tokens`` over the same turns."""
    no_reuse_json: str | None = None
    """Turns that did not reuse, by reason, as a JSON object; None for methods without pools."""
    turn_reuse_rate: float | None
    """Share of those turns that reused every segment, which is the paper's rate."""
    kl_mean: float | None
    """Mean ``kl_next_token`` of the checked turns; None if none was checked."""
    top1_rate: float | None
    """Share of the checked turns with ``top1_agree``."""
    kl_continuation_mean: float | None = None
    """Mean ``kl_continuation`` of the turns that have one; None if none has."""
    top1_continuation_mean: float | None = None
    """Mean ``top1_continuation`` of the same turns."""
    greedy_agreement_mean: float | None
    """Mean ``greedy_agreement`` of the turns that have one; None if none has."""
    energy_j: float | None = None
    """Sum of the samples' ``energy_j``; None if that of any sample is unknown."""
    pool_bytes_max: int | None
    pool_bytes_by_placeholder: str | None
    """Bytes of each pool when the trial ended, as a JSON object; None for methods without pools."""
    sandbox_layers: str | None
    """The layers that confined model-written code, separated by spaces; None if the trial runs no such code."""
    pool_bytes_public_layout: int | None
    """Bytes that the public code's layout takes for the anchors of all pools when the trial ended: their base KV and
    offsets in full, in the model's dtype (formula in ``kvcomm_core/pools/anchor_pools.py``)."""
    anchors_at_end: int | None
    """Anchors in all pools when the trial ended, equal to the number of rows in ``anchors``; None for timings,
    probes and methods without pools."""
    memory_start_bytes: int | None
    """Memory in use when the trial began, including the model, measured as in ``TurnRecord``; None if no replica got
    that far."""
    memory_peak_bytes: int | None
    """Peak memory in use during the trial; None where the system does not report it."""
    exclusive: bool
    """Whether the machine was kept free of the sweep's other work during the trial."""
    load_average_start: float | None
    """Processes that ran or wanted to run on the machine, averaged over the minute before the start. Like the next
    two fields, None for a trial in shards."""
    load_average_end: float | None
    """The same average before the end, including this trial's load."""
    others_cpu_s: float | None
    """CPU seconds that all other processes of the machine used during the trial."""
    started_at: datetime
    ended_at: datetime
    host: str
    device: str | None
    """For example ``cpu`` or ``cuda:0 NVIDIA H100``; None if no replica got that far."""
    model_commit: str | None
    """Commit of the model's repository on the Hub; None for any other model. Like the next three fields, None if no
    model was loaded."""
    weights_digest: str | None
    """SHA-256 of the weights. ``kvcomm_core/models/proof.py`` defines this field and the next two."""
    tokenizer_digest: str | None
    template_digest: str | None
    """SHA-256 of the chat template."""
    quantisation: str | None
    """The quantisation of the weights, such as ``bitsandbytes, 4 bits``; None if they are not, or nothing was
    loaded."""
    decoding: str | None
    """What ran one token per row: ``fused`` for the step of ``kvcomm_core/fused``, else ``transformers`` and why; None
    if nothing was loaded."""
    git_commit: str | None
    git_dirty: bool | None
    env_json: str


@dataclass(frozen=True, slots=True)
class TrialResult:
    """The full result of one attempt at a trial. A failed attempt has the same shape, with metrics None."""

    trial: TrialRow
    turns: list[TurnRecord] = field(default_factory=list)
    samples: list[SampleRecord] = field(default_factory=list)
    fidelity: list[FidelityRecord] = field(default_factory=list)
    """Fidelity of the checked turns."""
    probes: list[ProbeRecord] = field(default_factory=list)
    kv_statistics: list[KVStatistic] = field(default_factory=list)
    anchors: list[AnchorRecord] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    """Messages to the user, one line each; not stored."""
