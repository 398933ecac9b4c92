"""Workloads: where the items of a trial come from, and how an answer is graded.

A workload is one module with four things: a frozen dataclass of its parameters (with a literal ``name``),
``available(spec) -> str | None``, ``load(spec, seed) -> list[Item]`` and ``grade(item, answer) -> Grade``. To add one,
write the module, name it in ``WorkloadSpec`` and ``_MODULES`` below, and give it roles in ``harness/agents``.
"""

from types import ModuleType

from harness.workloads import gsm8k, recall
from harness.workloads.base import DataMissingError, Grade, Item, Outcome

WorkloadSpec = recall.RecallSpec | gsm8k.Gsm8kSpec

_MODULES: dict[str, ModuleType] = {"recall": recall, "gsm8k": gsm8k}


def available(spec: WorkloadSpec) -> str | None:
    """None if the workload's data is at hand or can be fetched, else one line saying why not. Takes seconds at most."""
    reason: str | None = _MODULES[spec.name].available(spec)
    return reason


def load(spec: WorkloadSpec, seed: int) -> list[Item]:
    """The items of a trial, in the order they are run. Raises ``DataMissingError`` if the data is not at hand."""
    items: list[Item] = _MODULES[spec.name].load(spec, seed)
    return items


def grade(spec: WorkloadSpec, item: Item, answer: str) -> Grade:
    """Grade the decision agent's answer to ``item``."""
    result: Grade = _MODULES[spec.name].grade(item, answer)
    return result


__all__ = ["DataMissingError", "Grade", "Item", "Outcome", "WorkloadSpec", "available", "grade", "load"]
