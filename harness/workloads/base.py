"""What every workload shares: an item, a grade, and the error for data that is not at hand."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from harness.text import Storable

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
