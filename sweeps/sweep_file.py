"""Sweep files as plain data: strict YAML, and the overrides of the command line.

Stricter than YAML itself: a key given twice, a number that is not finite and a date are errors, because each
would otherwise run another experiment than the one written down.
"""

import math
import re
import reprlib
from collections.abc import Hashable
from pathlib import Path

import yaml

Plain = str | int | float | bool | None | list["Plain"] | dict[str, "Plain"]

MAX_DEPTH = 6
"""A sweep file nests four levels at most; a deeper one is a mistake, or refers to itself."""


class SweepError(ValueError):
    """A sweep that cannot be run as written; one line that names the field, its value and what is allowed."""


class _Loader(yaml.SafeLoader):
    """``SafeLoader`` that refuses a key given twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key.value!r} is given twice", problem_mark=key.start_mark)
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


# YAML 1.1 takes 1e-3, without a point or a sign, for text.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_sweep_file(path: Path) -> dict[str, Plain]:
    """The top-level mapping of a sweep file. Raises ``SweepError``."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SweepError(f"not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise SweepError(f"cannot be read: {error.strerror}") from None
    entries = _parse(text)
    if not isinstance(entries, dict):
        raise SweepError(f"is {reprlib.repr(entries)}; allowed: a mapping such as 'name: smoke'")
    return entries


def choose_profile(entries: dict[str, Plain], name: str | None) -> None:
    """Replace ``profiles`` by the entries of the one called ``name``. Raises ``SweepError``.

    A file with profiles needs one to be chosen, a file without has none.
    """
    if "profiles" not in entries:
        if name is not None:
            raise SweepError(f"--profile is {name!r}; this sweep has no profiles")
        return
    profiles = entries.pop("profiles")
    if not isinstance(profiles, dict) or not profiles:
        raise SweepError(f"profiles is {reprlib.repr(profiles)}; allowed: a mapping of names to entries")
    for known, profile in profiles.items():
        if not isinstance(profile, dict) or not profile:
            raise SweepError(f"profiles.{known} is {reprlib.repr(profile)}; allowed: a mapping of entries")
        for key in ("grid", "profiles"):
            if key in profile:
                raise SweepError(f"profiles.{known}.{key} is given; in a profile, a list of values makes an axis")
    if name is None:
        raise SweepError(f"no profile is chosen; allowed: --profile {' or '.join(profiles)}")
    chosen = profiles.get(name)
    if not isinstance(chosen, dict):
        raise SweepError(f"--profile is {name!r}; allowed: {', '.join(profiles)}")
    for key, value in chosen.items():
        set_entry(entries, key, value)


def parse_override(override: str) -> tuple[str, Plain]:
    """``agents=[2, 3]`` as a key and a value, the value read as YAML. Raises ``SweepError``."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise SweepError(f"--set is {override!r}; allowed: key=value")
    try:
        return key.strip(), _parse(text)
    except SweepError as error:
        raise SweepError(f"--set {key.strip()}: {error}") from None


def set_entry(entries: dict[str, Plain], key: str, value: Plain) -> None:
    """Give ``key`` the value, wherever it stood before; a list makes it an axis of the grid.

    ``workload.limit`` also replaces ``limit`` in a ``workload`` mapping, and ``workload`` all ``workload.*``.
    """
    grid = entries.get("grid")
    places = [entries, grid] if isinstance(grid, dict) else [entries]
    head, _, leaf = key.partition(".")
    for place in places:
        for given in [name for name in place if name == key or name.startswith(f"{key}.")]:
            del place[given]
        mappings = place.get(head)
        for mapping in mappings if isinstance(mappings, list) else [mappings]:
            if leaf and isinstance(mapping, dict):
                mapping.pop(leaf, None)
    if isinstance(value, list) and key != "skip_if_missing":
        if not isinstance(grid, dict):
            grid = entries["grid"] = {}
        grid[key] = value
    else:
        entries[key] = value
    if grid == {}:
        del entries["grid"]


def dump_sweep(entries: dict[str, Plain]) -> str:
    """The sweep as a file that ``read_sweep_file`` reads back."""
    return yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)


def _parse(text: str) -> Plain:
    try:
        return _plain(yaml.load(text, Loader=_Loader), "", MAX_DEPTH)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise SweepError(f"{line}{error.problem}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise SweepError(f"not YAML: {' '.join(str(error).split())}") from None
    except ValueError as error:  # PyYAML's own, of a date such as 2024-99-99
        raise error if isinstance(error, SweepError) else SweepError(f"not YAML: {error}") from None


def _plain(value: object, where: str, depth: int) -> Plain:
    """``value`` if a JSON document could hold it."""
    if depth == 0:
        raise SweepError(f"{where} is nested more than {MAX_DEPTH} levels deep")
    match value:
        case None | bool() | str():
            return value
        case int() if -(2**63) <= value < 2**63:
            return value
        case float() if math.isfinite(value):
            return value
        case list():
            return [_plain(item, where, depth - 1) for item in value]
        case dict():
            for key in value:
                if not isinstance(key, str):
                    raise SweepError(f"key {key!r} is not text; put it in quotes")
            return {key: _plain(item, f"{where}.{key}".lstrip("."), depth - 1) for key, item in value.items()}
    allowed = "text, 64-bit and finite numbers, true, false, null, lists, mappings"
    raise SweepError(f"{where or 'value'} is {reprlib.repr(value)}; allowed: {allowed}")
