"""The names that a sweep file may use: settings, and the fields of a trial, its workload and its method."""

import dataclasses
import difflib
import typing
from collections.abc import Sequence

from harness.spec import TRIAL_FIELDS, MethodName, TrialSpec
from harness.workloads import UnknownWorkloadError, Workload, built_in, find_workload
from kvcomm_core.config import shown
from sweeps.language.strict_yaml import Plain, SweepError

SETTINGS = (
    "name",
    "replicas",
    "gpus_per_replica",
    "cpus_per_replica",
    "exclusive",
    "deadline_s",
    "autoscaling",
    "checkpoint_minutes",
    "skip_if_missing",
    "take_from",
)
"""Settings of the sweep, not of its trials."""

SECTIONS = ("grid", "zip", "list", "random", "repeats", "exclude")
"""Sections that turn values into trials."""


def names_of(record: type) -> tuple[str, ...]:
    """Return the names of a dataclass's fields."""
    return tuple(field.name for field in dataclasses.fields(record))


def _parameters(hint: object) -> type | None:
    """Return the dataclass in ``Parameters | None``, or None for any other annotation."""
    choices = [arg for arg in typing.get_args(hint) if isinstance(arg, type) and dataclasses.is_dataclass(arg)]
    return choices[0] if choices else None


METHOD_PARAMETERS: dict[str, type] = {
    name: parameters
    for name, hint in typing.get_type_hints(TrialSpec).items()
    if name in typing.get_args(MethodName) and (parameters := _parameters(hint))
}
"""Maps a method to the dataclass of its parameters."""

DEFAULT_TRIAL = TrialSpec()
DEFAULT_WORKLOAD: Plain = {"name": DEFAULT_TRIAL.workload.name}

_DOTTED = {f"workload.{name}" for record in built_in().values() for name in names_of(record) if name != "name"} | {
    f"{method}.{name}" for method, record in METHOD_PARAMETERS.items() for name in names_of(record)
}


def check_name(key: str, allowed: Sequence[str] = TRIAL_FIELDS) -> None:
    """Raise ``SweepError`` unless ``key`` is among ``allowed`` or a field of a workload or method, with a dot."""
    if key == "workload.name":
        raise SweepError("workload.name stands by itself; allowed: 'workload: NAME', or name in a workload mapping")
    if key not in allowed and key not in _DOTTED and not _may_be_of_plug_in(key):
        refuse_name(key, [*allowed, *sorted(_DOTTED)], "a key of a sweep file")


def _may_be_of_plug_in(key: str) -> bool:
    """Return whether ``key`` may belong to a plug-in's workload; ``check_applicable`` decides later."""
    head, _, leaf = key.partition(".")
    return head == "workload" and leaf.isidentifier()


def refuse_name(name: str, allowed: Sequence[str], what: str) -> typing.NoReturn:
    """Raise the ``SweepError`` for a name that is not ``what``, and suggest the nearest valid name."""
    close = difflib.get_close_matches(name, allowed, n=1)
    hint = f"did you mean {close[0]}?" if close else f"allowed: {', '.join(allowed)}"
    raise SweepError(f"{spelled(name)} is not {what}; {hint}")


def spelled(value: object) -> str:
    """Return ``shown`` with non-ASCII letters escaped: a Cyrillic letter may look like a Latin one."""
    return shown(value).encode("ascii", "backslashreplace").decode()


def workload_type(value: Plain) -> type[Workload]:
    """Return the class of a ``workload:`` value. Raises ``SweepError``."""
    name = value.get("name") if isinstance(value, dict) else value
    if not isinstance(value, dict) or not isinstance(name, str):
        raise SweepError(f"workload.name is {spelled(name)}; allowed: {', '.join(built_in())}, or module:Class")
    try:
        return find_workload(name)
    except UnknownWorkloadError as error:
        raise SweepError(f"workload.name is {spelled(name)}; {error}") from None
