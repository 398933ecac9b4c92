"""Base of workloads. A kind of trial is one subclass of ``Workload``: no other code asks which kind a trial is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from harness.agents.roles import Role
from kvcomm_core.config import require

if TYPE_CHECKING:
    from harness.spec import TrialSpec

from harness.text import Storable, storable

Outcome = Literal["correct", "wrong", "unparsable", "error"]


@dataclass(frozen=True, slots=True)
class Item(Storable):
    """One question with its expected answer."""

    item_id: str
    """Stable within the workload: it identifies the same question in every trial."""

    question: str
    """The text that fills the ``user_question`` placeholder."""

    expected: str
    """The reference answer in the form the grader compares with."""

    candidates: tuple[str, ...] = ()
    """All possible answers to the question, including ``expected``; empty where any answer is possible."""

    data: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Other data that the grader needs, by name; the workload's module defines it."""

    given: tuple[str, ...] = ()
    """Answers of agents 1, 2, ..., which are given instead of decoded. Empty where every agent answers by itself."""


@dataclass(frozen=True, slots=True)
class Grade(Storable):
    """The verdict on one answer, with its basis."""

    outcome: Outcome | None
    """None if the answer is not graded."""

    extracted: str | None
    """The final answer that the grader found; None if it found none, and then ``outcome`` is ``unparsable`` or None."""

    rule: str
    """Name of the rule that found ``extracted`` (or the reason why nothing was found)."""


class DataMissingError(Exception):
    """A workload's data is not available; the message says what the user can do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedTurns:
    """Turns of one kind that a trial will take."""

    count: float
    arm: str
    """``bare``, ``dense`` or the method whose turns they are."""
    prompt_tokens: float
    """Tokens of the prompt without the answers it contains."""
    answers_read: int = 0
    """Number of other agents' answers in the prompt."""
    read_tokens: float | None = None
    """Mean of the maximum lengths of these answers, in tokens; None if it is ``output_tokens``."""
    output_tokens: int = 0
    """Maximum length of the answer, in tokens."""
    given: bool = False
    """Whether the answer is given instead of decoded: its KV takes one forward pass."""


@dataclass(frozen=True, slots=True)
class Work:
    """The work of a trial, for an estimate of its time."""

    turns: tuple[ExpectedTurns, ...] = ()
    prompt_tokens: float = 0.0
    """Tokens that a trial without turns runs through the model."""


MAX_ANSWER_CHARACTERS = 100_000
"""Longer answers are not graded. This is some 25,000 tokens of English, and takes the slowest grader a second."""

UNUSED_UNGRADED = ("team", "batch_size", "wave", "shards", "fidelity")
"""Trial fields without meaning where no answer is graded."""

UNUSED_WITHOUT_ANSWERS = ("max_new_tokens", *UNUSED_UNGRADED)
"""Trial fields without meaning where no answer is decoded to its natural end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The parameters of a workload as fields, and the kind of trial it defines.

    A subclass is a frozen dataclass whose ``name`` has a default. Its module loads no torch: ``runner`` names the
    function that does the work.
    """

    __pydantic_config__ = {"extra": "forbid", "strict": True}  # noqa: RUF012 - read by pydantic, not a field

    runner: ClassVar[str]
    """``module:function``, called with a ``harness.trials.trial_run.TrialRun``, whose lists it fills."""
    tables: ClassVar[tuple[str, ...]] = ()
    """Tables that every finished attempt has beside ``trials``, ``turns`` and ``samples``."""
    graded: ClassVar[bool] = False
    """Whether agents answer items and the answers are graded: such trials have teams, rounds, batches, shards,
    fidelity."""
    converses: ClassVar[bool] = False
    """Whether agents take turns that read each other."""
    timing: ClassVar[bool] = False
    """Whether it only measures times: on a CPU it then has its machine to itself."""
    needs_weights: ClassVar[bool] = True
    """Whether it runs the model; otherwise the shape of the model's KV is enough."""
    compares_with_dense: ClassVar[bool] = True
    """Whether trials of another method are compared with a trial of ``dense``."""
    runs_code: ClassVar[bool] = False
    """Whether grading runs code that a model wrote."""
    picks: ClassVar[bool] = False
    """Whether the decision agent picks one of an item's ``candidates``, by the probabilities of the first tokens."""
    has_doctests: ClassVar[bool] = False
    """Whether its items are functions whose docstrings the tool ``doctest`` can run."""
    shown_by: ClassVar[str] = ""
    """``module:function``, called with the ``analysis.results.Results`` of a folder. It returns
    ``analysis.tables.shown.Shown`` objects, which ``kvcomm show`` prints for trials of this kind. Empty if there are
    none."""
    shown_fields: ClassVar[tuple[str, ...]] = ()
    """Fields of the workload that these tables show. A trial's record that lacks one is damaged."""
    instead_of_verdict: ClassVar[str] = ""
    """The sentence that a report shows instead of its verdict if the trials say nothing about speed, answers and reuse;
    empty if they do."""
    unused_fields: ClassVar[tuple[str, ...]] = ()
    """Trial fields without meaning for this workload. A sweep that also has other workloads may set them."""

    name: str

    @property
    def team(self) -> str | None:
        """The built-in team that gives its agents their roles unless the trial names one; None if there is none."""
        return None

    @property
    def units(self) -> float:
        """The quantity with which the time of a trial without turns grows."""
        return 1.0

    @property
    def looks_up(self) -> bool:
        """Whether its agents may look things up in Wikipedia."""
        return False

    def pinned(self) -> Self:
        """Return the workload with the digest of the file that it names, if that is part of the trial's identity."""
        return self

    def versions(self) -> dict[str, str]:
        """Return the versions of plug-ins that its fields name, as entries of the trial's identity."""
        return {}

    def available(self) -> str | None:
        """Return None if the data is available or can be fetched, else one line saying why not. Takes seconds at
        most."""
        return None

    def load(self, seed: int) -> list[Item]:  # noqa: ARG002 - without items
        """Return the items of a trial, in the order they are run; none for a timing.

        Raise ``DataMissingError`` if the data is not available, and ``ValueError`` if it is malformed (naming file,
        line and field) or holds fewer items than requested.
        """
        return []

    def grade(self, item: Item, answer: str, *, allow_unsafe: bool = False) -> Grade:
        """Grade an agent's answer to ``item``. With ``allow_unsafe``, its code runs even where it cannot be confined.

        No answer stops a trial. An answer of more than ``MAX_ANSWER_CHARACTERS`` is unparsable by the rule
        ``answer_too_long``. An answer on which a grader fails is unparsable by ``grader_failed`` with the name of the
        exception. Only faults of this machine raise.
        """
        if len(answer) > MAX_ANSWER_CHARACTERS:
            return Grade("unparsable", None, "answer_too_long")
        try:
            return self.grade_answer(item, storable(answer), allow_unsafe=allow_unsafe)
        except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError, MemoryError) as error:
            return Grade("unparsable", None, f"grader_failed: {type(error).__name__}")

    def grade_answer(self, item: Item, answer: str, *, allow_unsafe: bool) -> Grade:
        """Grade an answer that is storable and not too long; see ``grade``."""
        raise NotImplementedError(f"answers of the workload {self.name} have no grades")

    def check(self, trial: "TrialSpec") -> None:
        """Raise ``ValueError`` if the other fields of ``trial`` do not fit this workload."""

    def work(self, trial: "TrialSpec", items: Sequence[Item]) -> Work:
        """Return the work that the trial will do with its items."""
        raise NotImplementedError

    def runs_model_code(self, roles: Sequence[Role]) -> bool:
        """Return whether a trial with these roles runs model-written code, for a tool or for a grade."""
        return self.runs_code or any(role.runs_code for role in roles)


def require_fully_connected(trial: "TrialSpec") -> None:
    """Raise ``ValueError`` if a timing has any other topology."""
    allowed = f"fully_connected, with workload {trial.workload.name}"
    require(trial.topology == "fully_connected", "topology", trial.topology, allowed)
