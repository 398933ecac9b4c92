"""Probes of keys and values: what the paper's figures 1, 4 and A.4 to A.11 show of the model, rather than of a method.

They read the questions of another workload, and what they come to are KVStatistics, which nothing grades:

``contexts``   figure 1: how far the context moves a token's keys and values (``harness/probes/contexts.py``)
``proximity``  figure 4: whether similar tokens are moved alike (``harness/probes/proximity.py``)
``offsets``    figures A.4 to A.11: the offsets that anchors would keep, by layer and dimension
               (``harness/probes/offsets.py``)
"""

from dataclasses import dataclass
from typing import Literal

from harness.workloads.gsm8k import Gsm8kSpec
from harness.workloads.mmlu import MmluSpec
from harness.workloads.recall import RecallSpec
from kvcomm_core.config import require

BINS = ("near", "mid", "far")
"""Of pairs of tokens, by the distance of their embeddings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KVProbeSpec:
    """Base of the parameters of these probes."""

    __pydantic_config__ = {"extra": "forbid", "strict": True}  # noqa: RUF012 - read by pydantic, not a field

    questions: Literal["recall", "gsm8k", "mmlu"] = "recall"
    """The workload whose questions and roles make up the contexts."""

    path: str | None = None
    """The file of the questions; None: where they are found. Not with ``recall``, which has none."""

    limit: int = 10
    """Number of questions, from the first. At least 1."""

    def __post_init__(self) -> None:
        require(self.limit >= 1, "workload.limit", self.limit, "1 or more")
        if self.questions == "recall":
            require(self.path is None, "workload.path", self.path, "null, with workload.questions recall")

    @property
    def question_spec(self) -> RecallSpec | Gsm8kSpec | MmluSpec:
        """The workload of the questions."""
        if self.questions == "recall":
            return RecallSpec(limit=self.limit)
        return (Gsm8kSpec if self.questions == "gsm8k" else MmluSpec)(limit=self.limit, path=self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextsSpec(KVProbeSpec):
    """Parameters of the ``contexts`` probe. Each question makes one of the prefixes, ten in the paper's figure."""

    name: Literal["contexts"] = "contexts"

    tokens: int = 10
    """Tokens that are put behind every prefix, each with the token of the nearest embedding. At least 1."""

    def __post_init__(self) -> None:
        KVProbeSpec.__post_init__(self)
        require(self.limit >= 2, "workload.limit", self.limit, "2 or more, with workload contexts: one is no spread")
        require(self.tokens >= 1, "workload.tokens", self.tokens, "1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProximitySpec(KVProbeSpec):
    """Parameters of the ``proximity`` probe. The defaults are those of the paper's figure 4."""

    name: Literal["proximity"] = "proximity"

    tokens: int = 4000
    """The most different tokens that are sampled from the questions and from what the roles are told. At least 2."""

    pairs: int = 300
    """Pairs of them, a third each near, mid and far, and as many drawn at random. A multiple of 3, at least 12."""

    def __post_init__(self) -> None:
        KVProbeSpec.__post_init__(self)
        require(
            self.limit >= 2, "workload.limit", self.limit, "2 or more, with workload proximity: it has two prefixes"
        )
        require(self.tokens >= 2, "workload.tokens", self.tokens, "2 or more")
        pairs = self.pairs
        require(pairs >= 12 and pairs % len(BINS) == 0, "workload.pairs", pairs, "a multiple of 3, 12 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetsSpec(KVProbeSpec):
    """Parameters of the ``offsets`` probe: the trial's agents answer each question, every turn prefilled densely."""

    name: Literal["offsets"] = "offsets"
