"""Probes of keys and values: the paper's figures 1, 4 and A.4 to A.11, which describe the model rather than a method.

They read the questions of another workload and yield KVStatistics, which nothing grades:

``contexts``   figure 1: how far the context moves a token's keys and values (``harness/trials/probes/contexts.py``)
``proximity``  figure 4: whether similar tokens are moved alike (``harness/trials/probes/proximity.py``)
``offsets``    figures A.4 to A.11: the offsets that anchors would keep, by layer and dimension
               (``harness/trials/probes/offsets.py``)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.workloads.base import UNUSED_UNGRADED, UNUSED_WITHOUT_ANSWERS, Item, Work, Workload
from harness.workloads.gsm8k import Gsm8kSpec
from harness.workloads.mmlu import MmluSpec
from harness.workloads.questions import CHARACTERS_PER_TOKEN, MARKUP_TOKENS, expected_turns
from harness.workloads.recall import RecallSpec
from kvcomm_core.config import require

if TYPE_CHECKING:
    from harness.spec import TrialSpec

BINS = ("near", "mid", "far")
"""Bins of token pairs, by the distance of their embeddings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KVProbeSpec(Workload):
    """Base of the parameters of these probes."""

    tables: ClassVar[tuple[str, ...]] = ("kv_statistics",)
    shown_by: ClassVar[str] = "analysis.tables.show:show_probes"
    instead_of_verdict: ClassVar[str] = (
        "Keys and values were measured for themselves. Speedup, accuracy, reuse and memory are not measured."
    )
    unused_fields: ClassVar[tuple[str, ...]] = UNUSED_WITHOUT_ANSWERS

    questions: Literal["recall", "gsm8k", "mmlu"] = "recall"
    """The workload whose questions and roles make up the contexts."""

    path: str | None = None
    """The file of the questions; None to search the default places. Not allowed with ``recall``, which has no file."""

    limit: int = 10
    """Number of questions, counted from the first. At least 1."""

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

    @property
    def team(self) -> str | None:
        """The roles for which the questions are written."""
        return self.questions

    @property
    def units(self) -> float:
        """Its questions."""
        return float(self.limit)

    def available(self) -> str | None:
        """Return None if the questions are available, else one line saying why not."""
        return self.question_spec.available()

    def load(self, seed: int) -> list[Item]:
        """Return the questions."""
        return self.question_spec.load(seed)

    def check(self, trial: "TrialSpec") -> None:
        """Raise ``ValueError`` unless the method is ``dense``: a probe examines the model, not a method."""
        require(trial.method == "dense", "method", trial.method, f"dense, with workload {self.name}")

    def prefix_work(self, items: Sequence[Item], prefixes: int, tokens: int) -> Work:
        """Return the work of a probe that puts ``tokens`` after each prefix, one by one."""
        length = MARKUP_TOKENS + sum(len(item.question) for item in items) // CHARACTERS_PER_TOKEN // len(items)
        return Work(prompt_tokens=prefixes * (length + tokens))


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextsSpec(KVProbeSpec):
    """Parameters of the ``contexts`` probe. Each question makes one prefix; the paper's figure has ten."""

    runner: ClassVar[str] = "harness.trials.probes.contexts:run_contexts"

    name: Literal["contexts"] = "contexts"

    tokens: int = 10
    """Number of tokens after every prefix, each with the token of the nearest embedding. At least 1."""

    def __post_init__(self) -> None:
        KVProbeSpec.__post_init__(self)
        require(self.limit >= 2, "workload.limit", self.limit, "2 or more, with workload contexts: one is no spread")
        require(self.tokens >= 1, "workload.tokens", self.tokens, "1 or more")

    def work(self, trial: "TrialSpec", items: Sequence[Item]) -> Work:  # noqa: ARG002 - the same for all
        """Return the work: a prefix per question, followed by each token and its neighbor."""
        return self.prefix_work(items, len(items), 2 * self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProximitySpec(KVProbeSpec):
    """Parameters of the ``proximity`` probe. The defaults are those of the paper's figure 4."""

    runner: ClassVar[str] = "harness.trials.probes.proximity:run_proximity"

    name: Literal["proximity"] = "proximity"

    tokens: int = 4000
    """Maximum number of different tokens sampled from the questions and the roles' prompts. At least 2."""

    pairs: int = 300
    """Number of pairs of these tokens, a third each near, mid and far; as many again are random. A multiple of 3, at
    least 12."""

    def __post_init__(self) -> None:
        KVProbeSpec.__post_init__(self)
        require(
            self.limit >= 2, "workload.limit", self.limit, "2 or more, with workload proximity: it has two prefixes"
        )
        require(self.tokens >= 2, "workload.tokens", self.tokens, "2 or more")
        pairs = self.pairs
        require(pairs >= 12 and pairs % len(BINS) == 0, "workload.pairs", pairs, "a multiple of 3, 12 or more")

    def work(self, trial: "TrialSpec", items: Sequence[Item]) -> Work:  # noqa: ARG002 - the same for all
        """Return the work: two prefixes, each followed by both tokens of all pairs and of as many random ones."""
        return self.prefix_work(items, 2, 4 * self.pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetsSpec(KVProbeSpec):
    """Parameters of the ``offsets`` probe: the trial's agents answer each question, with every turn prefilled
    densely."""

    runner: ClassVar[str] = "harness.trials.probes.offsets:run_offsets"
    converses: ClassVar[bool] = True
    unused_fields: ClassVar[tuple[str, ...]] = UNUSED_UNGRADED

    name: Literal["offsets"] = "offsets"

    def work(self, trial: "TrialSpec", items: Sequence[Item]) -> Work:
        """Return the turns of its conversation, all of them dense."""
        return Work(expected_turns(trial, items))
