"""YAML files of teams as plain data: texts, lists and mappings, whose mistakes are refused in one line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml

from kvcomm_core.config import one_line, shown
from kvcomm_core.files.regular_files import read_regular

MAX_BYTES = 1_000_000
"""The most bytes of a team file, and of a prompt file."""


class TeamError(ValueError):
    """A team file cannot be used; the message is one line with file, field, value and what is allowed."""


def read_text(path: Path) -> str:
    """Return the text of a file, its lines ended by line feeds. Raise ``OSError``, or ``ValueError`` for no text."""
    try:
        return read_regular(path, MAX_BYTES).decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text, at byte {error.start}") from None


def reason_of(error: OSError | ValueError) -> str:
    """Return why a file cannot be read, without its name."""
    return error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)


def read_document(path: Path) -> dict[str, Any]:
    """Return the top-level mapping of a YAML file. Raise ``TeamError``."""
    try:
        document = yaml.load(read_text(path), Loader=_Loader)  # noqa: S506 - it builds texts, lists and mappings alone
    except yaml.YAMLError as error:
        raise TeamError(f"{path}: not YAML ({one_line(error)[:300]})") from None
    except RecursionError:
        raise TeamError(f"{path}: not YAML that can be read (it is nested too deeply)") from None
    except (OSError, ValueError) as error:
        raise TeamError(f"{path}: cannot be read ({reason_of(error)}); allowed: a team file") from None
    if not isinstance(document, dict):
        raise TeamError(f"{path}: is {shown(document)}; allowed: a mapping with roles")
    return document


class _Loader(yaml.BaseLoader):
    """Reads every scalar as text, whatever its tag, and refuses a key that is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.MarkedYAMLError(problem=f"key {key!r} is given twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep=deep)


def known(place: str, entries: Mapping[Any, Any], allowed: tuple[str, ...], prefix: str) -> None:
    """Raise ``TeamError`` unless all keys are allowed. ``prefix`` is the field that holds them, and a dot."""
    for key in entries:
        if key not in allowed:
            raise TeamError(f"{place}: {prefix}{shown(key)} is no key of a team file; allowed: {', '.join(allowed)}")


def text(place: str, field: str, value: object) -> str:
    """Return a value that must be text, and not blank. Raise ``TeamError``."""
    if not isinstance(value, str) or not value.strip():
        refuse(place, field, value, "text")
    return value


def one_of(place: str, field: str, value: object, names: list[str]) -> str:
    """Return a value that must be one of ``names``. Raise ``TeamError``."""
    if not isinstance(value, str) or value not in names:
        refuse(place, field, value, ", ".join(names))
    return value


def refuse(place: str, field: str, value: object, allowed: str) -> NoReturn:
    """Raise the ``TeamError`` for a value that is not allowed."""
    raise TeamError(f"{place}: {field} is {shown(value)}; allowed: {allowed}")
