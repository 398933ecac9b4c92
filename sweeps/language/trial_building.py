"""The step from combinations to trials: the fields that apply to each, ``exclude``, and validation."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from harness.agents import Team
from harness.methods import parameters_key
from harness.spec import TrialSpec
from harness.workloads import Workload
from kvcomm_core.config import shown
from sweeps.language.combinations import Axis, Row
from sweeps.language.fields import (
    DEFAULT_TRIAL,
    DEFAULT_WORKLOAD,
    method_parameters,
    method_type,
    names_of,
    refuse_name,
    spelled,
    workload_type,
)
from sweeps.language.strict_yaml import SweepError

T = TypeVar("T")


class CombinationError(SweepError):
    """A dataclass rejects a combination, though each of its values alone may be allowed."""


def check_applicable(axes: Sequence[Axis], combinations: Sequence[Row]) -> None:
    """Raise ``SweepError`` for a field that applies to no trial, rather than drop it silently."""
    given = [key for axis in axes for key in axis.fields]
    workloads = {json.dumps(row.get("workload", DEFAULT_WORKLOAD)): row for row in combinations}
    chosen = [workload_type(row.get("workload", DEFAULT_WORKLOAD)) for row in workloads.values()]
    names = {str(json.loads(key)["name"]) for key in workloads}
    for key in given:
        head, _, leaf = key.partition(".")
        if all(key in record.unused_fields for record in chosen):
            raise SweepError(f"{key} is given with workload {', '.join(sorted(names))} alone, which has no use for it")
        if head in method_parameters() and "method" not in given:
            raise SweepError(f"{key} is given without method; allowed: also method: {head}")
        if head == "workload" and leaf and not any(leaf in names_of(record) for record in chosen):
            fields = dict.fromkeys(name for record in chosen for name in names_of(record) if name != "name")
            refuse_name(key, [f"workload.{name}" for name in fields], "a field of the workloads of this sweep")


def idle_parameters(axes: Sequence[Axis], combinations: Sequence[Row]) -> tuple[str, ...]:
    """Return a line for each method whose parameters are given although no trial runs it."""
    methods = list(dict.fromkeys(str(row.get("method", DEFAULT_TRIAL.method)) for row in combinations))
    run = {parameters_key(method) for method in methods}
    given: dict[str, list[str]] = {}
    for key in dict.fromkeys(key for axis in axes for key in axis.fields):
        head = key.partition(".")[0]
        if head in method_parameters() and head not in run:
            given.setdefault(head, []).append(key)
    return tuple(
        f"{', '.join(keys)} without effect, since no trial has method: {head}; the methods are {', '.join(methods)}"
        for head, keys in given.items()
    )


def applicable(combination: Row) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the trial's own fields and its workload's, without those that do not apply to its method or workload."""
    method = combination.get("method", DEFAULT_TRIAL.method)
    method_type(method)
    key_of_method = parameters_key(str(method))
    workload = combination.get("workload", DEFAULT_WORKLOAD)
    record = workload_type(workload)
    known = method_parameters()
    own: dict[str, Any] = {}
    fields: dict[str, Any] = dict(workload) if isinstance(workload, dict) else {}
    # Whole mappings come first, so that ``kvcomm: {...}`` does not overwrite an earlier ``kvcomm.gamma``.
    for key, value in sorted(combination.items(), key=lambda item: "." in item[0]):
        head, _, leaf = key.partition(".")
        if head in known and head != key_of_method:
            continue
        if key == "fidelity" and method == "dense":
            continue  # fidelity compares reuse turns; dense has none
        if key in record.unused_fields:
            continue
        if head == "workload":
            if leaf in names_of(record):
                fields[leaf] = value
        elif leaf:
            given = own.setdefault(head, None)
            if not isinstance(given, dict | None):
                raise SweepError(f"{head} is {shown(given)}; allowed: a mapping of its fields to values")
            own[head] = {**(given or {}), leaf: value}
        else:
            own[head] = dict(value) if isinstance(value, dict) else value
    return own, fields


def settings_of(combination: Row) -> dict[str, Any]:
    """Return the fields that ``exclude`` compares: those that apply, with dotted names and defaults."""
    own, workload = applicable(combination)
    method = own.get("method", DEFAULT_TRIAL.method)
    heads: dict[str, tuple[type, dict[str, Any]]] = {"workload": (workload_type(workload), workload)}
    if isinstance(method, str) and (key := parameters_key(method)) in method_parameters():
        given = own.get(key)
        heads[key] = (method_parameters()[key], given if isinstance(given, dict) else {})
    settings = {f.name: f.default for f in dataclasses.fields(TrialSpec) if f.name not in ("workload", "parameters")}
    unused = workload_type(workload).unused_fields
    settings = {key: value for key, value in settings.items() if key not in unused}
    settings |= {key: value for key, value in own.items() if key not in heads}
    for head, (record, fields) in heads.items():
        given = {f.name: f.default for f in dataclasses.fields(record)} | fields
        settings |= {f"{head}.{leaf}": value for leaf, value in given.items()}
    return settings


def make_trial(combination: Row, teams: Mapping[str, Team]) -> TrialSpec:
    """Build a combination's trial, whose team is among ``teams``. Raises ``SweepError``, or ``CombinationError`` if the
    values may conflict."""
    own, fields = applicable(combination)
    parameters = {key: own.pop(key) for key in method_parameters() if key in own}
    team = teams.get(own.pop("team", None))
    # The team fixes them, so they are compared with it.
    fixed: dict[str, Any] = {}
    if team and team.graph:
        fixed = {key: own.pop(key) for key in ("agents", "topology") if key in own}
    trial = validated(TrialSpec, own, "")
    for key, given in parameters.items():
        if not isinstance(given, dict):
            raise SweepError(f"{key} is {spelled(given)}; allowed: a mapping of its fields to values")
        fixed["parameters"] = validated(type(trial.parameters), given, f"{key}.")
    try:
        workload: Workload = validated(workload_type(fields), fields, "workload.")
        return replace(trial, workload=workload.pinned(), team=team, **fixed)
    except SweepError:
        raise
    except ValueError as error:  # from ``require``: the workload conflicts with another field
        raise CombinationError(str(error)) from None


@functools.lru_cache(maxsize=1024)  # many trials share their workload and parameters, which are frozen
def _validated(record: type[T], data: str) -> T:
    valid: T = _adapter(record).validate_json(data)  # type: ignore[arg-type]  # types are hashable
    return valid


@functools.cache  # building one takes a thousand times as long as using it
def _adapter(record: type) -> TypeAdapter[Any]:
    return TypeAdapter(record)


def validated(record: type[T], data: dict[str, Any], prefix: str) -> T:
    """Return ``data`` as an instance of ``record``, with strict types. Raises ``SweepError`` for the first mistake."""
    try:
        valid: T = _validated(record, json.dumps(data))  # type: ignore[arg-type]  # types are hashable
    except ValidationError as error:
        first = error.errors()[0]
        kind = CombinationError if first["type"] == "value_error" else SweepError
        raise kind(_describe(first, prefix, record)) from None
    return valid


_ALLOWED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dataclass_type": "a mapping",
}


def _describe(error: ErrorDetails, prefix: str, record: type) -> str:
    """Describe a pydantic error in one line: field, value, what is allowed."""
    field = prefix + ".".join(str(part) for part in error["loc"])
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":  # from ``require``, which names the field within its own dataclass
        message = str(context["error"])
        return message if not field or message.startswith(field) else f"{field.rstrip('.')}.{message}"
    if kind in ("missing", "missing_argument"):
        return f"{field} is missing"
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        base = field.rpartition(".")[0]
        refuse_name(field, [f"{base}.{name}".lstrip(".") for name in names_of(record)], f"a field of {base}")
    allowed = context.get("expected") if kind == "literal_error" else _ALLOWED.get(kind, error["msg"])
    hint = ""
    if isinstance(error["input"], list):
        hint = " (several go under grid)"
    elif isinstance(error["input"], str) and "," in error["input"]:
        hint = " (several are written [a, b], under grid or with --set)"
    return f"{field} is {spelled(error['input'])}; allowed: {allowed}{hint}"
