"""Measurements of a trial beside its turns: FidelityRecords of turns compared with dense prefill, and AnchorRecords of
the pools' content at the end. ``blend`` yields only ProbeRecords, and a probe of keys and values only KVStatistics.

The fields are columns of Parquet files, as in ``trial_result.py``. Unknown is None, never 0.
"""

from dataclasses import dataclass
from typing import Literal

Step = Literal["match", "fetch", "blend", "copy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FidelityRecord:
    """Keys or values of one layer of a turn's prompt, compared with those of dense prefill, for one kind of segment.

    The comparison covers the tokens after the leading text, without the prompt's last one: see
    ``kvcomm_core/fidelity.py``.
    """

    trial_id: str
    attempt: int
    sample_index: int
    agent_index: int
    round: int
    layer: int
    """Layer index, from 0."""
    kind: Literal["text", "placeholder"]
    part: Literal["keys", "values"]
    cosine: float
    """Cosine similarity, -1 to 1, averaged over tokens."""
    l2_error: float
    """L2 norm of the difference, averaged over tokens."""
    tokens: int
    """Tokens compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRecord:
    """One timed step of a ``blend`` trial; see ``harness.trials.blend_timing``."""

    trial_id: str
    attempt: int
    repeat: int
    """Index of the repeat, from 0."""
    step: Step
    seconds: float
    bytes_read: int
    """Bytes of KV that the step must read of the sample, the anchors and the base, each counted once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KVStatistic:
    """One number that a probe of keys and values yields; the modules of ``harness/trials/probes`` define the measures.

    Columns that a probe does not use are None.
    """

    trial_id: str
    attempt: int
    probe: Literal["contexts", "proximity", "offsets"]
    measure: str
    """The quantity that is summarised, for example ``offset``."""
    statistic: str
    """The statistic: ``mean``, ``sd``, ``q50`` (a quantile, in percent), ``spearman`` and others."""
    value: float | None
    """None where it is not defined, such as a correlation with a constant."""
    n: int
    """Number of values that it summarises."""
    part: Literal["keys", "values"] | None = None
    layer: int | None = None
    """Layer index, from 0; None if over all layers."""
    dimension: int | None = None
    """Head times head size plus channel, from 0; None if over all dimensions."""
    agent_index: int | None = None
    """Agent's index, from 1."""
    kind: Literal["text", "placeholder"] | None = None
    """Kind of segment."""
    aligned: bool | None = None
    """Whether keys were moved to the same position before they were compared."""
    bin: Literal["near", "mid", "far", "random"] | None = None
    """The pairs of tokens, by the distance of their embeddings; ``random`` pairs ignore the distance."""
    token_index: int | None = None
    """Token index, from 0."""
    token_text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorRecord:
    """One anchor that a pool held when the trial ended."""

    trial_id: str
    attempt: int
    placeholder: str
    """Placeholder id of the pool."""
    shard: int
    """Shard that the pool belongs to, from 0."""
    age_rank: int
    """Position in the pool, from 0 for the oldest."""
    tokens: int
    """Length of the sample."""
    readers: str | None
    """Ids of the agents in whose prompts its offset was measured, separated by spaces; None with the estimator
    ``mean``, which does not keep offsets by anchor."""
    activations: int
    """Number of holes whose offset was estimated from it, alone or with others."""
    weight: float
    """Sum of the weights with which it was used; eviction goes by it."""
