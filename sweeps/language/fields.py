"""The names that a sweep file may use: settings, and the fields of a trial, its workload and its method."""

import contextlib
import dataclasses
import difflib
import functools
import typing
from collections.abc import Sequence

from harness.extensions import UnknownNameError
from harness.methods import BUILT_IN, find_method, parameters_key
from harness.spec import TRIAL_FIELDS, TrialSpec
from harness.workloads import UnknownWorkloadError, Workload, built_in, find_workload
from kvcomm_core.config import MethodConfig, shown
from sweeps.language.strict_yaml import Plain, SweepError

SETTINGS = (
    "name",
    "replicas",
    "gpus_per_replica",
    "cpus_per_replica",
    "accelerator",
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


_PLUGGED_IN: dict[str, type[MethodConfig]] = {}
"""Parameters of the methods from elsewhere that the sweep files read so far name, by their key."""


def method_parameters() -> dict[str, type[MethodConfig]]:
    """Return the parameters of all known methods that have any, by the key under which a sweep file sets them."""
    return _of_built_in() | {key: record for key, record in _PLUGGED_IN.items() if names_of(record)}


@functools.cache
def _of_built_in() -> dict[str, type[MethodConfig]]:
    methods = {parameters_key(name): find_method(name) for name in BUILT_IN}
    return {key: record for key, record in methods.items() if names_of(record)}


DEFAULT_TRIAL = TrialSpec()
DEFAULT_WORKLOAD: Plain = {"name": DEFAULT_TRIAL.workload.name}


def _dotted() -> set[str]:
    """Return the fields of all methods and of all workloads that are imported, those of plug-ins among them."""
    workloads: list[type[Workload]] = [*built_in().values(), *Workload.__subclasses__()]
    of_workloads = {f"workload.{name}" for record in workloads for name in names_of(record) if name != "name"}
    return of_workloads | {f"{key}.{name}" for key, record in method_parameters().items() for name in names_of(record)}


def import_plug_ins(entries: Plain) -> None:
    """Import the workloads and methods from elsewhere that a sweep file names, so that their fields are known.

    A name that means nothing is refused later, where it stands. Raises ``SweepError`` if two methods share a key.
    """
    if isinstance(entries, dict):
        name, methods = entries.get("name"), entries.get("method")
        if isinstance(name, str) and ":" in name:
            with contextlib.suppress(UnknownWorkloadError):
                find_workload(name)
        for method in methods if isinstance(methods, list) else [methods]:
            if isinstance(method, str) and method not in BUILT_IN:
                with contextlib.suppress(UnknownNameError):
                    _plug_in(method)
    for value in entries.values() if isinstance(entries, dict) else entries if isinstance(entries, list) else ():
        import_plug_ins(value)


def _plug_in(method: str) -> None:
    key, record = parameters_key(method), find_method(method)
    taken = _PLUGGED_IN.get(key, record) is not record
    if taken or key in (*BUILT_IN, *TRIAL_FIELDS, *SETTINGS, *SECTIONS):
        raise SweepError(f"method is {spelled(method)}, whose name {key!r} is taken; allowed: another name")
    _PLUGGED_IN[key] = record


def check_name(key: str, allowed: Sequence[str] = TRIAL_FIELDS) -> None:
    """Raise ``SweepError`` unless ``key`` is among ``allowed`` or a field of a workload or method, with a dot."""
    if key == "workload.name":
        raise SweepError("workload.name stands by itself; allowed: 'workload: NAME', or name in a workload mapping")
    head, _, leaf = key.partition(".")
    later = head == "workload" and leaf.isidentifier()  # ``check_applicable`` knows the workloads of the sweep
    if key not in (*allowed, *method_parameters()) and not later:
        check_known(key, allowed)


def check_known(key: str, allowed: Sequence[str] = TRIAL_FIELDS) -> None:
    """Raise ``SweepError`` unless ``key`` is among ``allowed`` or a field of a method or of an imported workload."""
    if key not in allowed and key not in (dotted := _dotted()):
        refuse_name(key, [*allowed, *sorted(dotted)], "a key of a sweep file")


def refuse_name(name: str, allowed: Sequence[str], what: str) -> typing.NoReturn:
    """Raise the ``SweepError`` for a name that is not ``what``, and suggest the nearest valid name."""
    close = difflib.get_close_matches(name, allowed, n=1)
    listed = [one for one in allowed if "." not in one] or allowed
    more = "" if len(listed) == len(allowed) else ", or a field of a method or workload, such as kvcomm.gamma"
    hint = f"did you mean {close[0]}?" if close else f"allowed: {', '.join(listed)}{more}"
    raise SweepError(f"{spelled(name)} is not {what}; {hint}")


def spelled(value: object) -> str:
    """Return ``shown`` with non-ASCII letters escaped: a Cyrillic letter may look like a Latin one."""
    return shown(value).encode("ascii", "backslashreplace").decode()


def method_type(value: Plain) -> type[MethodConfig]:
    """Return the parameters of a ``method:`` value. Raises ``SweepError``."""
    try:
        return find_method(value if isinstance(value, str) else "")
    except UnknownNameError as error:
        raise SweepError(f"method is {spelled(value)}; {error}") from None


def workload_type(value: Plain) -> type[Workload]:
    """Return the class of a ``workload:`` value. Raises ``SweepError``."""
    name = value.get("name") if isinstance(value, dict) else value
    if not isinstance(value, dict) or not isinstance(name, str):
        raise SweepError(f"workload.name is {spelled(name)}; allowed: {', '.join(built_in())}, or module:Class")
    try:
        return find_workload(name)
    except UnknownWorkloadError as error:
        raise SweepError(f"workload.name is {spelled(name)}; {error}") from None
