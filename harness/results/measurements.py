"""What a trial measures beside its turns: FidelityRecords of those that were compared with dense prefill, AnchorRecords
of what its pools hold at the end. ``blend`` yields ProbeRecords alone, a probe of keys and values KVStatistics alone.

Columns of Parquet files, as in ``records.py``. Unknown is None, never 0.
"""

from dataclasses import dataclass
from typing import Literal

Step = Literal["match", "fetch", "blend", "copy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FidelityRecord:
    """Keys or values of one layer of a turn's prompt beside those of dense prefill, for one kind of segment.

    Over the tokens behind the leading text, without the prompt's last one: see ``kvcomm_core/fidelity.py``.
    """

    trial_id: str
    attempt: int
    sample_index: int
    agent_index: int
    round: int
    layer: int
    """From 0."""
    kind: Literal["text", "placeholder"]
    part: Literal["keys", "values"]
    cosine: float
    """Mean over tokens of the cosine similarity, -1 to 1."""
    l2_error: float
    """Mean over tokens of the L2 norm of the difference."""
    tokens: int
    """Tokens compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRecord:
    """One timed step of a ``blend`` trial; see ``harness.trials.blend_timing``."""

    trial_id: str
    attempt: int
    repeat: int
    """From 0."""
    step: Step
    seconds: float
    bytes_read: int
    """Of KV: what the step must read of the sample, the anchors and the base, each once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KVStatistic:
    """One number that a probe of keys and values came to; the modules of ``harness/probes`` say what they measure.

    Columns that a probe has no use for are None.
    """

    trial_id: str
    attempt: int
    probe: Literal["contexts", "proximity", "offsets"]
    measure: str
    """What is summed up, for example ``offset``."""
    statistic: str
    """How: ``mean``, ``sd``, ``q50`` (a quantile, in percent), ``spearman`` and others."""
    value: float | None
    """None where it is not defined, as a correlation with a constant."""
    n: int
    """Numbers that it sums up."""
    part: Literal["keys", "values"] | None = None
    layer: int | None = None
    """From 0; None: over layers."""
    dimension: int | None = None
    """Head times head size plus channel, from 0; None: over dimensions."""
    agent_index: int | None = None
    """From 1."""
    kind: Literal["text", "placeholder"] | None = None
    """Of segment."""
    aligned: bool | None = None
    """Whether keys were moved to the same position before they were compared."""
    bin: Literal["near", "mid", "far", "random"] | None = None
    """Which pairs of tokens, by the distance of their embeddings; ``random``: drawn without regard to it."""
    token_index: int | None = None
    """From 0."""
    token_text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorRecord:
    """One anchor that a pool held when the trial ended."""

    trial_id: str
    attempt: int
    placeholder: str
    """Of the pool."""
    shard: int
    """Whose pool it is; from 0."""
    age_rank: int
    """Position in the pool, from 0 for the oldest."""
    tokens: int
    """Length of the sample."""
    readers: str | None
    """Ids of the agents in whose prompts its offset was measured, with a space between; None with the estimator
    ``mean``, which does not keep them by anchor."""
    activations: int
    """Holes whose offset was estimated from it, among others or alone."""
    weight: float
    """The weights with which it was used, summed; eviction goes by it."""
