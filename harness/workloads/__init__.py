"""Workloads: where the items of a trial come from, and how an answer is graded.

A workload is one module with three things: a frozen dataclass of its parameters (with a literal ``name``),
``load(spec, seed) -> list[Item]`` and ``grade(item, answer) -> Grade``. To add one, write the module and name it
in ``WorkloadSpec`` and ``_MODULES`` below.
"""

from types import ModuleType

from harness.workloads import gsm8k, recall
from harness.workloads.base import DataMissingError, Grade, Item, Outcome

WorkloadSpec = recall.RecallSpec | gsm8k.Gsm8kSpec

_MODULES: dict[str, ModuleType] = {"recall": recall, "gsm8k": gsm8k}


def load(spec: WorkloadSpec, seed: int) -> list[Item]:
    """The items of a trial, in the order they are run. Raises ``DataMissingError`` if the data is not at hand."""
    items: list[Item] = _MODULES[spec.name].load(spec, seed)
    return items


def grade(spec: WorkloadSpec, item: Item, answer: str) -> Grade:
    """Grade the decision agent's answer to ``item``."""
    result: Grade = _MODULES[spec.name].grade(item, answer)
    return result


__all__ = ["DataMissingError", "Grade", "Item", "Outcome", "WorkloadSpec", "grade", "load"]
