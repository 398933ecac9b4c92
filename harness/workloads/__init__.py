"""Workloads: the tasks of trials, one module each.

A kind of trial is a class of ``base.Workload``, which defines everything about it: whether it is graded, whose roles
its agents have, which tables it fills, and which function runs it. The modules of this package are found without being
listed. A sweep file names a class elsewhere as ``module:Class``. A workload of questions is a class of
``questions.QuestionWorkload``, or of ``QuestionFileSpec`` if its items come from a file, which ``sources.py`` finds and
reads; its roles are in ``harness/agents``.
"""

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from harness.extensions import UnknownNameError, find, version_of
from harness.workloads.base import DataMissingError, Grade, Item, Outcome, Workload


class UnknownWorkloadError(ValueError):
    """No workload has that name; the message is one line."""


@functools.cache
def built_in() -> dict[str, type[Workload]]:
    """Return the workloads of this package by name, those of questions first."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    values = [value for module in modules for value in vars(module).values()]
    classes = [value for value in values if isinstance(value, type) and issubclass(value, Workload)]
    named = {default_name(workload): workload for workload in classes if default_name(workload)}
    return dict(sorted(named.items(), key=lambda one: (not one[1].graded, one[0])))


def find_workload(name: str) -> type[Workload]:
    """Find the class of a workload, by its name or as ``module:Class``. Raise ``UnknownWorkloadError``."""
    try:
        found = find("workloads", name, _paths())
    except UnknownNameError as error:
        raise UnknownWorkloadError(str(error)) from None
    if not (isinstance(found, type) and issubclass(found, Workload)):
        raise UnknownWorkloadError(f"it is no class of Workload; allowed: {', '.join(built_in())}, or module:Class")
    return found


def workload_version(name: str) -> str | None:
    """Return the version of a plug-in, or None for a built-in workload."""
    return version_of("workloads", name, _paths())


@functools.cache
def _paths() -> dict[str, str]:
    return {name: f"{workload.__module__}:{workload.__name__}" for name, workload in built_in().items()}


def read_workload(fields: Mapping[str, Any]) -> Workload:
    """Return the workload of a trial's record. Raise ``UnknownWorkloadError``, also for fields of another version."""
    try:
        return find_workload(fields["name"])(**fields)
    except (TypeError, ValueError) as error:
        raise UnknownWorkloadError(str(error)) from None


def default_name(workload: type[Workload]) -> str:
    """Return the default of a workload's name field; empty for a base of several."""
    name = workload.__dataclass_fields__["name"].default
    return name if isinstance(name, str) else ""


__all__ = [
    "DataMissingError",
    "Grade",
    "Item",
    "Outcome",
    "UnknownWorkloadError",
    "Workload",
    "built_in",
    "default_name",
    "find_workload",
    "read_workload",
    "workload_version",
]
