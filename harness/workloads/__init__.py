"""Workloads: where the items of a trial come from, and how an answer is graded.

A workload is one module with four things: a frozen dataclass of its parameters (with a literal ``name``),
``available(spec) -> str | None``, ``load(spec, seed) -> list[Item]`` and ``grade(item, answer) -> Grade``. To add one,
write the module, name it in ``QuestionSpec`` and ``_MODULES`` below, and give it roles in ``harness/agents``. If its
items come from a file, ``sources.py`` finds and reads it and ``questions.py`` puts them in order.

A *timing* is a workload without items and grades: a dataclass alone, named in ``TimingSpec``, and run by a module of
its own (``harness.ttft``, ``harness.blend``). A *probe* has the items of another workload, and no grades: it is named
in ``ProbeSpec`` and run by a module of ``harness/probes``.
"""

from types import ModuleType
from typing import get_args

from harness.text import storable
from harness.workloads import aime, gsm8k, humaneval, math500, mmlu, recall
from harness.workloads.base import DataMissingError, Grade, Item, Outcome
from harness.workloads.blend import BlendSpec
from harness.workloads.probes import ContextsSpec, KVProbeSpec, OffsetsSpec, ProximitySpec
from harness.workloads.ttft import TtftSpec

QuestionSpec = (
    recall.RecallSpec | gsm8k.Gsm8kSpec | mmlu.MmluSpec | humaneval.HumanEvalSpec | math500.Math500Spec | aime.AimeSpec
)
TimingSpec = TtftSpec | BlendSpec
ProbeSpec = ContextsSpec | ProximitySpec | OffsetsSpec
WorkloadSpec = QuestionSpec | TimingSpec | ProbeSpec

TIMINGS: tuple[str, ...] = tuple(spec().name for spec in get_args(TimingSpec))
"""Names of the workloads that have no items and no grades."""

PROBES: tuple[str, ...] = tuple(spec().name for spec in get_args(ProbeSpec))
"""Names of the probes of keys and values."""

UNGRADED = (*TIMINGS, *PROBES)
"""Names of the workloads that have no grades."""

MAX_ANSWER_CHARACTERS = 100_000
"""Longer answers are not graded. Some 25,000 tokens of English, and a second's work for the slowest grader."""

_MODULES: dict[str, ModuleType] = {
    "recall": recall,
    "gsm8k": gsm8k,
    "mmlu": mmlu,
    "humaneval": humaneval,
    "math500": math500,
    "aime": aime,
}


def available(spec: WorkloadSpec) -> str | None:
    """None if the workload's data is at hand or can be fetched, else one line saying why not. Takes seconds at most."""
    if isinstance(spec, KVProbeSpec):
        return available(spec.question_spec)
    reason: str | None = None if spec.name in TIMINGS else _MODULES[spec.name].available(spec)
    return reason


def load(spec: WorkloadSpec, seed: int) -> list[Item]:
    """The items of a trial, in the order they are run; none for a timing.

    Raises ``DataMissingError`` if the data is not at hand.
    """
    if isinstance(spec, KVProbeSpec):
        return load(spec.question_spec, seed)
    items: list[Item] = [] if spec.name in TIMINGS else _MODULES[spec.name].load(spec, seed)
    return items


def has_conversation(spec: WorkloadSpec) -> bool:
    """Whether agents take turns in a trial of it, in the roles of ``roles_of``."""
    return spec.name not in TIMINGS and not isinstance(spec, ContextsSpec | ProximitySpec)


def roles_of(spec: WorkloadSpec) -> str | None:
    """Name of the workload whose roles the agents have; None for a timing."""
    if isinstance(spec, KVProbeSpec):
        return spec.questions
    return None if spec.name in TIMINGS else spec.name


def grade(spec: QuestionSpec, item: Item, answer: str, *, allow_unsafe: bool = False) -> Grade:
    """Grade an agent's answer to ``item``. ``allow_unsafe``: even where its code cannot be confined.

    An answer of more than ``MAX_ANSWER_CHARACTERS`` is unparsable by the rule ``answer_too_long``, and one over which a
    grader fails by ``grader_failed`` with the name of the exception: no answer stops a trial. Raises only for what is
    wrong with this machine.
    """
    if len(answer) > MAX_ANSWER_CHARACTERS:
        return Grade("unparsable", None, "answer_too_long")
    answer = storable(answer)
    try:
        if isinstance(spec, humaneval.HumanEvalSpec):
            return humaneval.grade(item, answer, allow_unsafe=allow_unsafe)
        result: Grade = _MODULES[spec.name].grade(item, answer)
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError, MemoryError) as error:
        return Grade("unparsable", None, f"grader_failed: {type(error).__name__}")
    return result


__all__ = [
    "PROBES",
    "TIMINGS",
    "UNGRADED",
    "BlendSpec",
    "ContextsSpec",
    "DataMissingError",
    "Grade",
    "Item",
    "OffsetsSpec",
    "Outcome",
    "ProbeSpec",
    "ProximitySpec",
    "QuestionSpec",
    "TimingSpec",
    "TtftSpec",
    "WorkloadSpec",
    "available",
    "grade",
    "has_conversation",
    "load",
    "roles_of",
]
