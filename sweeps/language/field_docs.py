"""The fields that a sweep file may set, with the documentation that the fields themselves have."""

import ast
import dataclasses
import functools
import inspect
import itertools
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from harness.spec import TrialSpec
from harness.workloads import Workload, built_in
from sweeps.language.fields import SETTINGS, method_parameters
from sweeps.language.sweep_spec import SweepSpec


@dataclass(frozen=True, slots=True)
class FieldDoc:
    """A field of a dataclass."""

    name: str
    annotation: Any
    """Its type."""
    default: Any
    """``dataclasses.MISSING`` if it has to be given; also where a function makes the default."""
    text: str
    """Its documentation in one line; empty if it has none."""


def documented(record: type) -> list[FieldDoc]:
    """Return the fields of a dataclass."""
    hints, texts = typing.get_type_hints(record), _texts(record)
    return [
        FieldDoc(field.name, hints[field.name], field.default, texts.get(field.name, ""))
        for field in dataclasses.fields(record)
    ]


def settings() -> list[FieldDoc]:
    """Return the settings of a sweep."""
    return [field for field in documented(SweepSpec) if field.name in SETTINGS]


def trial_fields() -> list[FieldDoc]:
    """Return the fields of a trial but its workload and its method's parameters, which have fields of their own."""
    return [field for field in documented(TrialSpec) if field.name not in ("workload", "parameters")]


def workloads() -> dict[str, type[Workload]]:
    """Return the built-in workloads, and those from elsewhere that have been imported, by name."""
    others = {f"{one.__module__}:{one.__name__}": one for one in Workload.__subclasses__()}
    known = built_in()
    ours = tuple(f"{one.__module__}:" for one in known.values())
    return known | {name: one for name, one in others.items() if not name.startswith((*ours, "harness."))}


def dotted_fields() -> Iterator[tuple[str, str, FieldDoc]]:
    """Yield the fields of methods and workloads: the name with its dot, whose it is, and the field."""
    for key, record in method_parameters().items():
        for field in documented(record):
            yield f"{key}.{field.name}", f"method {key}", field
    for name, workload in workloads().items():
        for field in documented(workload):
            if field.name != "name":
                yield f"workload.{field.name}", f"workload {name}", field


@functools.cache
def _texts(record: type) -> dict[str, str]:
    """Return the string below each field in the source of a class and of its bases."""
    found: dict[str, str] = {}
    for one in reversed(record.__mro__):
        if not dataclasses.is_dataclass(one):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(one)))
        except (OSError, TypeError, SyntaxError):  # a plug-in without its source
            continue
        [body] = [node.body for node in tree.body if isinstance(node, ast.ClassDef)]
        for field, below in itertools.pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
                value = below.value
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    found[field.target.id] = " ".join(value.value.split())
    return found
