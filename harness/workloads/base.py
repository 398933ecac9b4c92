"""What a trial works on. A kind of trial is one subclass of ``Workload``: nobody else asks which kind a trial is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

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
    """Stable within the workload: names the same question in every trial."""

    question: str
    """The text that fills the ``user_question`` placeholder."""

    expected: str
    """The reference answer in the form the grader compares with."""

    candidates: tuple[str, ...] = ()
    """All answers the question could be given, ``expected`` among them; empty where any answer is possible."""

    data: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What else the grader needs, by name; the workload's module says what."""


@dataclass(frozen=True, slots=True)
class Grade(Storable):
    """The verdict on one answer, with what it rests on."""

    outcome: Outcome
    extracted: str | None
    """What the grader took for the final answer; None if it found none, and then ``outcome`` is ``unparsable``."""

    rule: str
    """Name of the rule that found ``extracted`` (or why nothing was found)."""


class DataMissingError(Exception):
    """A workload's data is not at hand; the message says what the user can do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedTurns:
    """Turns of one kind that a trial will take."""

    count: float
    arm: str
    """``bare``, ``dense`` or the method whose turns they are."""
    prompt_tokens: float
    """Tokens of the prompt without the answers that it holds."""
    answers_read: int = 0
    """Answers of other agents that the prompt holds."""
    output_tokens: int = 0
    """The longest answer."""
    given: bool = False
    """Whether the answer is not decoded: its KV takes one forward pass."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a trial will do, for an estimate of the time that it takes."""

    turns: tuple[ExpectedTurns, ...] = ()
    prompt_tokens: float = 0.0
    """Tokens that a trial without turns puts into the model."""


MAX_ANSWER_CHARACTERS = 100_000
"""Longer answers are not graded. Some 25,000 tokens of English, and a second's work for the slowest grader."""

UNUSED_UNGRADED = ("batch_size", "shards", "fidelity")
"""Trial fields that mean nothing where no answer is graded."""

UNUSED_WITHOUT_ANSWERS = ("max_new_tokens", *UNUSED_UNGRADED)
"""Trial fields that mean nothing where no answer is decoded as long as it likes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The parameters of a workload as fields, and what kind of trial it makes.

    A subclass is a frozen dataclass whose ``name`` has a default. Its module loads no torch: ``runner`` names the
    function that does the work.
    """

    __pydantic_config__ = {"extra": "forbid", "strict": True}  # noqa: RUF012 - read by pydantic, not a field

    runner: ClassVar[str]
    """``module:function``, called with a ``harness.trials.trial_run.TrialRun``, whose lists it fills."""
    tables: ClassVar[tuple[str, ...]] = ()
    """Tables that every finished attempt has beside ``trials``, ``turns`` and ``samples``."""
    graded: ClassVar[bool] = False
    """Whether agents answer items and the answers are graded: such trials have rounds, batches, shards, fidelity."""
    converses: ClassVar[bool] = False
    """Whether agents take turns that read each other."""
    timing: ClassVar[bool] = False
    """Whether times are all that it is for: on a CPU it has its machine to itself."""
    needs_weights: ClassVar[bool] = True
    """Whether it runs the model; else the shape of the model's KV is enough."""
    compares_with_dense: ClassVar[bool] = True
    """Whether a trial of another method is set beside one of ``dense``."""
    runs_code: ClassVar[bool] = False
    """Whether grading runs code that a model wrote."""
    shown_by: ClassVar[str] = ""
    """``module:function``, called with the ``analysis.load.Records`` of a results folder. What it returns, each an
    ``analysis.tables.shown.Shown``, is what ``kvcomm show`` prints of trials of this kind. Empty: nothing."""
    shown_fields: ClassVar[tuple[str, ...]] = ()
    """Its fields that these tables show: a trial's record that lacks one is damaged."""
    instead_of_verdict: ClassVar[str] = ""
    """What a report says where its trials tell nothing of speed, answers and reuse; empty where they do."""
    unused_fields: ClassVar[tuple[str, ...]] = ()
    """Trial fields that mean nothing to it: a sweep over other workloads, too, may give them."""

    name: str

    @property
    def team(self) -> str | None:
        """The team of ``harness/agents`` whose roles its agents have; None if they have none."""
        return None

    @property
    def units(self) -> float:
        """By what the time of a trial without turns grows."""
        return 1.0

    @property
    def looks_up(self) -> bool:
        """Whether its agents may look things up on Wikipedia."""
        return False

    def available(self) -> str | None:
        """None if the data is at hand or can be fetched, else one line saying why not. Takes seconds at most."""
        return None

    def load(self, seed: int) -> list[Item]:  # noqa: ARG002 - without items
        """The items of a trial, in the order they are run; none for a timing.

        Raises ``DataMissingError`` if the data is not at hand, and ``ValueError`` if it is malformed (naming file, line
        and field) or holds fewer items than asked for.
        """
        return []

    def grade(self, item: Item, answer: str, *, allow_unsafe: bool = False) -> Grade:
        """Grade an agent's answer to ``item``. ``allow_unsafe``: even where its code cannot be confined.

        An answer of more than ``MAX_ANSWER_CHARACTERS`` is unparsable by the rule ``answer_too_long``, and one over
        which a grader fails by ``grader_failed`` with the name of the exception: no answer stops a trial. Raises only
        for what is wrong with this machine.
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
        """Raise ``ValueError`` if the other fields of ``trial`` do not go with this workload."""

    def work(self, trial: "TrialSpec", items: Sequence[Item]) -> Work:
        """What the trial will do with its items."""
        raise NotImplementedError

    def runs_model_code(self, roles: Sequence[Role]) -> bool:
        """Whether a trial with these roles runs code that a model wrote: for a tool, or for a grade."""
        return self.runs_code or any(role.runs_code for role in roles)


def require_fully_connected(trial: "TrialSpec") -> None:
    """Raise ``ValueError`` if the agents of a timing are arranged in any other way."""
    allowed = f"fully_connected, with workload {trial.workload.name}"
    require(trial.topology == "fully_connected", "topology", trial.topology, allowed)
