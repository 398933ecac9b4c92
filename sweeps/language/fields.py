"""The names that a sweep file may use: settings, and the fields of a trial, its workload and its method."""

import contextlib
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


METHOD_PARAMETERS: dict[str, type] = {
    name: type(parameters)
    for name in typing.get_args(MethodName)
    if (parameters := getattr(TrialSpec(method=name), name, None)) is not None
}
"""Maps a method to the dataclass of its parameters."""

DEFAULT_TRIAL = TrialSpec()
DEFAULT_WORKLOAD: Plain = {"name": DEFAULT_TRIAL.workload.name}

_OF_METHODS = {f"{method}.{name}" for method, record in METHOD_PARAMETERS.items() for name in names_of(record)}


def _dotted() -> set[str]:
    """Return the fields of all methods and of all workloads that are imported, those of plug-ins among them."""
    workloads: list[type[Workload]] = [*built_in().values(), *Workload.__subclasses__()]
    return _OF_METHODS | {f"workload.{name}" for record in workloads for name in names_of(record) if name != "name"}


def import_plug_ins(entries: Plain) -> None:
    """Import the workloads from elsewhere that a sweep file names, so that their fields are known.

    A name that means nothing is refused later, where it stands.
    """
    name = entries.get("name") if isinstance(entries, dict) else None
    if isinstance(name, str) and ":" in name:
        with contextlib.suppress(UnknownWorkloadError):
            find_workload(name)
    for value in entries.values() if isinstance(entries, dict) else entries if isinstance(entries, list) else ():
        import_plug_ins(value)


def check_name(key: str, allowed: Sequence[str] = TRIAL_FIELDS) -> None:
    """Raise ``SweepError`` unless ``key`` is among ``allowed`` or a field of a workload or method, with a dot."""
    if key == "workload.name":
        raise SweepError("workload.name stands by itself; allowed: 'workload: NAME', or name in a workload mapping")
    head, _, leaf = key.partition(".")
    later = head == "workload" and leaf.isidentifier()  # ``check_applicable`` knows the workloads of the sweep
    if key not in allowed and not later:
        check_known(key, allowed)


def check_known(key: str, allowed: Sequence[str] = TRIAL_FIELDS) -> None:
    """Raise ``SweepError`` unless ``key`` is among ``allowed`` or a field of a method or of an imported workload."""
    if key not in allowed and key not in (dotted := _dotted()):
        refuse_name(key, [*allowed, *sorted(dotted)], "a key of a sweep file")


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
