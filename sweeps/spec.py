"""SweepSpec: a sweep file read into trials.

    name: smoke
    workload: {name: recall, limit: 12}
    replicas: 2
    grid:                        # every combination is a trial
      agents: [2, 3]
      method: [dense, kvcomm]
      kvcomm.gamma: [0.1, 0.3]

Any field of ``TrialSpec`` may stand at the top (one value) or under ``grid`` (a list of values), and so may
the fields of ``workload`` and of a method's parameters, with a dot. A method's parameters apply only to that
method and a workload's fields only to the workloads that have them, so ``dense`` above gives two trials, not
four. Equal combinations give one trial. Paths are relative to the folder the command is started in.

A file may have ``profiles``, named sets of entries that replace those of the file:

    profiles:
      paper: {model: meta-llama/Llama-3.1-8B-Instruct}
      embedded: {model: embedded, workload.repeats: 2}

One of them must then be chosen: such a file leaves open what only a profile says, and nothing tells which one was
meant. In a profile, too, a list of values makes an axis of the grid.
"""

import dataclasses
import difflib
import itertools
import json
import math
import re
import reprlib
import typing
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from harness.spec import TRIAL_FIELDS, MethodName, TrialSpec
from harness.workloads import TIMINGS, WorkloadSpec
from kvcomm_core.config import require
from sweeps.sweep_file import (
    Plain,
    SweepError,
    choose_profile,
    dump_sweep,
    parse_override,
    read_sweep_file,
    set_entry,
)

MAX_TRIALS = 100_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSpec:
    """Many trials and the replicas they run on."""

    __pydantic_config__ = {"extra": "forbid", "strict": True}  # noqa: RUF012 - read by pydantic, not a field

    name: str
    """Names the folder of the results. Letters, digits, ``.``, ``_`` and ``-``."""

    replicas: int = 1
    """Copies of the model that work side by side."""

    gpus_per_replica: float | None = None
    """A whole number, or a share below 1. None: the machine's GPUs divided over the replicas, 1 at most."""

    cpus_per_replica: int | None = None
    """None: the machine's cores divided over the replicas, at least 1."""

    exclusive: bool | None = None
    """Whether each trial has its machine to itself, with all cores as threads unless ``cpus_per_replica`` says
    otherwise. None: timings (``ttft``, ``blend``) on a CPU have."""

    skip_if_missing: tuple[str, ...] = ()
    """Workloads whose trials are left out, and said to be, if their data is not at hand."""

    trials: tuple[TrialSpec, ...] = ()
    """All different, in the order of the grid."""

    text: str = ""
    """The sweep, overrides included, as a sweep file."""

    def __post_init__(self) -> None:
        safe = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", self.name) is not None
        require(safe, "name", self.name, "letters, digits, '.', '_' and '-', a letter or digit first, up to 100")
        require(self.replicas >= 1, "replicas", self.replicas, "1 or more")
        gpus, cpus = self.gpus_per_replica, self.cpus_per_replica
        whole = gpus is None or 0 <= gpus <= 1 or (gpus > 1 and gpus == int(gpus))
        require(whole, "gpus_per_replica", gpus, "0 to 1, or a whole number")
        require(cpus is None or cpus >= 1, "cpus_per_replica", cpus, "1 or more")
        for workload in self.skip_if_missing:
            require(workload in WORKLOADS, "skip_if_missing", workload, ", ".join(WORKLOADS))

    def is_exclusive(self, trial: TrialSpec, *, on_gpu: bool) -> bool:
        """Whether a trial of this sweep is to have its machine to itself."""
        if self.exclusive is not None:
            return self.exclusive
        return trial.workload.name in TIMINGS and not on_gpu


def _default_of(record: type, name: str) -> Any:
    return next(f.default for f in dataclasses.fields(record) if f.name == name)


def _parameters(hint: object) -> type | None:
    """The dataclass in ``Parameters | None``; None for any other annotation."""
    choices = [arg for arg in typing.get_args(hint) if isinstance(arg, type) and dataclasses.is_dataclass(arg)]
    return choices[0] if choices else None


WORKLOADS: dict[str, type] = {_default_of(spec, "name"): spec for spec in typing.get_args(WorkloadSpec)}
"""By name: the dataclass of a workload's fields."""

METHOD_PARAMETERS: dict[str, type] = {
    name: parameters
    for name, hint in typing.get_type_hints(TrialSpec).items()
    if name in typing.get_args(MethodName) and (parameters := _parameters(hint))
}
"""By method: the dataclass of its own parameters."""

_DEFAULT = TrialSpec()
_DEFAULT_WORKLOAD: Plain = {"name": _DEFAULT.workload.name}

SETTINGS = ("name", "replicas", "gpus_per_replica", "cpus_per_replica", "exclusive", "skip_if_missing")

NOT_OF_TIMINGS = ("max_new_tokens", "batch_size", "fidelity")
"""Trial fields that mean nothing to a timing."""

_DOTTED = {
    f"{head}.{field.name}"
    for head, records in [
        ("workload", list(WORKLOADS.values())),
        *((k, [v]) for k, v in METHOD_PARAMETERS.items()),
    ]
    for record in records
    for field in dataclasses.fields(record)
}


def load_sweep(
    path: Path, overrides: Sequence[str] = (), limit: int | None = None, profile: str | None = None
) -> SweepSpec:
    """Read a sweep file. ``overrides`` are ``key=value`` and beat the profile; ``limit`` is that of every workload.

    Raises ``SweepError``, one line, if any of it is not as it should be.
    """
    try:
        entries = read_sweep_file(path)
        choose_profile(entries, profile)
    except SweepError as error:
        raise SweepError(f"{path}: {error}") from None
    for override in overrides:
        set_entry(entries, *parse_override(override))
    if limit is not None:
        set_entry(entries, "workload.limit", limit)
    try:
        return _sweep(entries)
    except SweepError as error:
        raise SweepError(f"{path}: {error}") from None


def _sweep(entries: dict[str, Plain]) -> SweepSpec:
    settings = {key: value for key, value in entries.items() if key in SETTINGS}
    sweep = _validated(SweepSpec, settings, "")
    axes = _axes({key: value for key, value in entries.items() if key not in SETTINGS})
    size = math.prod(len(values) for values in axes.values())
    if size > MAX_TRIALS:
        raise SweepError(f"grid has {size:,} combinations; allowed: {MAX_TRIALS:,} at most")
    _check_applicable(axes)
    combinations = (dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values()))
    trials = tuple(dict.fromkeys(_trial(combination) for combination in combinations))
    return replace(sweep, trials=trials, text=dump_sweep(entries))


def _axes(entries: dict[str, Plain]) -> dict[str, list[Plain]]:
    """Every trial field that is given, with its values."""
    axes: dict[str, list[Plain]] = {}
    grid = entries.pop("grid", {"": None})
    if not isinstance(grid, dict) or not grid:
        raise SweepError(f"grid is {reprlib.repr(grid)}; allowed: a mapping of trial fields to lists of values")
    grid.pop("", None)
    for key, value in entries.items():
        _check_key(key, (*SETTINGS, "grid", *TRIAL_FIELDS))
        axes[key] = [value]
    for key, values in grid.items() if isinstance(grid, dict) else ():
        _check_key(key, TRIAL_FIELDS)
        if key in axes:
            raise SweepError(f"{key} stands both at the top and under grid; allowed: one of them")
        if not isinstance(values, list) or not values:
            raise SweepError(f"grid.{key} is {reprlib.repr(values)}; allowed: a list with at least one value")
        axes[key] = values
    if "workload" in axes:
        axes["workload"] = [{"name": value} if isinstance(value, str) else value for value in axes["workload"]]
    for key in axes:
        head, _, leaf = key.partition(".")
        if leaf and any(isinstance(value, dict) and leaf in value for value in axes.get(head, [])):
            raise SweepError(f"{key} is given twice, by itself and in {head}; allowed: one of them")
    return axes


def _check_key(key: str, allowed: Sequence[str]) -> None:
    if key not in allowed and key not in _DOTTED:
        _refuse_name(key, [*allowed, *sorted(_DOTTED)], "a key of a sweep file")


def _refuse_name(name: str, allowed: Sequence[str], what: str) -> typing.NoReturn:
    close = difflib.get_close_matches(name, allowed, n=1)
    hint = f"did you mean {close[0]}?" if close else f"allowed: {', '.join(allowed)}"
    raise SweepError(f"{reprlib.repr(name)} is not {what}; {hint}")


def _check_applicable(axes: dict[str, list[Plain]]) -> None:
    """A field that no trial could take is a mistake, not something to leave out silently."""
    chosen = [_workload_type(value) for value in axes.get("workload", [_DEFAULT_WORKLOAD])]
    names = {_default_of(record, "name") for record in chosen}
    for key in axes:
        head, _, leaf = key.partition(".")
        if key in NOT_OF_TIMINGS and names <= set(TIMINGS):
            raise SweepError(f"{key} is given with workload {', '.join(sorted(names))} alone, which has no use for it")
        if head in METHOD_PARAMETERS and "method" not in axes:
            raise SweepError(f"{key} is given without method; allowed: also method: {head}")
        if head == "workload" and leaf and not any(leaf in _names(record) for record in chosen):
            fields = dict.fromkeys(name for record in chosen for name in _names(record))
            _refuse_name(key, [f"workload.{name}" for name in fields], "a field of the workloads of this sweep")


def _trial(combination: dict[str, Plain]) -> TrialSpec:
    """The trial of one combination; what does not apply to its method or workload is left out."""
    method = combination.get("method", _DEFAULT.method)
    workload = combination.get("workload", _DEFAULT_WORKLOAD)
    record = _workload_type(workload)
    data: dict[str, Any] = {}
    for key, value in combination.items():
        head, _, leaf = key.partition(".")
        if head in METHOD_PARAMETERS and head != method:
            continue
        if key == "fidelity" and method == "dense":
            continue  # it compares reuse turns, of which dense has none
        if key in NOT_OF_TIMINGS and _default_of(record, "name") in TIMINGS:
            continue
        if not leaf:
            data[key] = dict(value) if isinstance(value, dict) else value
        elif head != "workload":
            data[head] = {**(data.get(head) or {}), leaf: value}
    assert isinstance(workload, dict)  # noqa: S101 - _workload_type has seen to it
    dotted = {key.removeprefix("workload."): v for key, v in combination.items() if key.startswith("workload.")}
    fields = {**workload, **{leaf: value for leaf, value in dotted.items() if leaf in _names(record)}}
    data.pop("workload", None)
    trial = _validated(TrialSpec, data, "")
    try:
        return replace(trial, workload=_validated(record, fields, "workload."))
    except ValueError as error:  # from ``require``: the workload does not go with another field
        raise SweepError(str(error)) from None


def _workload_type(value: Plain) -> type:
    if not isinstance(value, dict) or value.get("name") not in WORKLOADS:
        name = value.get("name") if isinstance(value, dict) else value
        raise SweepError(f"workload.name is {reprlib.repr(name)}; allowed: {', '.join(WORKLOADS)}")
    return WORKLOADS[str(value["name"])]


def _names(record: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(record))


def _validated(record: type[T], data: dict[str, Any], prefix: str) -> T:
    """``data`` as a record, types taken strictly. The first mistake is a ``SweepError``."""
    try:
        return TypeAdapter(record).validate_json(json.dumps(data))
    except ValidationError as error:
        raise SweepError(_describe(error.errors()[0], prefix, record)) from None


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
    """One line of a pydantic error: field, value, what is allowed."""
    field = prefix + ".".join(str(part) for part in error["loc"])
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":  # from ``require``, which names the field inside its own record
        message = str(context["error"])
        return message if not field or message.startswith(field) else f"{field.rstrip('.')}.{message}"
    if kind in ("missing", "missing_argument"):
        return f"{field} is missing"
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        owner = METHOD_PARAMETERS.get(str(error["loc"][0]), record)
        base = field.rpartition(".")[0]
        _refuse_name(field, [f"{base}.{name}".lstrip(".") for name in _names(owner)], f"a field of {base}")
    allowed = context.get("expected") if kind == "literal_error" else _ALLOWED.get(kind, error["msg"])
    hint = " (several go under grid)" if isinstance(error["input"], list) else ""
    return f"{field} is {reprlib.repr(error['input'])}; allowed: {allowed}{hint}"
