"""Sweep files as plain data: strict YAML in, YAML out.

The loader is stricter than YAML. It rejects what would run an experiment other than the one written down, or hide the
difference: duplicate keys, numbers that are not finite, dates, 010 and 1:30 as numbers (YAML 1.1 reads 8 and 90), tags,
merge keys and unprintable characters. It bounds the size, the depth and the expansion of aliases, so that a file cannot
hang the command.
"""

import math
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, NoReturn

import yaml

from kvcomm_core.config import one_line, shown

Plain = str | int | float | bool | None | list["Plain"] | dict[str, "Plain"]

MAX_BYTES = 1_000_000
MAX_DEPTH = 9
"""Limit of nesting. A sweep file nests at most eight levels; a deeper one is wrong or refers to itself."""
MAX_LEVELS = 100
"""Levels at which reading stops, before it reaches Python's recursion limit."""
MAX_VALUES = 500_000
"""The most values in a file, with aliases expanded."""
MAX_TEXT = 1000
"""The most characters of a text; the longest texts are paths."""
MAX_KEY = 100
"""The most characters of a key."""


class SweepError(ValueError):
    """The sweep cannot run as written. The message is one line with the field, its value and what is allowed."""


_INT, _FLOAT, _MERGE = (f"tag:yaml.org,2002:{name}" for name in ("int", "float", "merge"))


class _Loader(yaml.SafeLoader):
    """``SafeLoader`` without YAML's surprising parts."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - read by PyYAML
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_INT, _FLOAT)]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    level = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        tag = getattr(event, "tag", None)
        if tag is not None:
            _refuse(event, f"tag {shown(tag.replace('tag:yaml.org,2002:', '!!'))}; allowed: values without tags")
        if self.level == MAX_LEVELS:
            _refuse(event, f"is nested more than {MAX_DEPTH} levels deep")
        self.level += 1
        node = super().compose_node(parent, index)
        self.level -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                _refuse(key, "a list or mapping as a key; allowed: text")
            if key.tag == _MERGE:
                _refuse(key, "merge key '<<'; allowed: keys written out, or 'extends: FILE' for a whole file")
            if key.value in seen:
                _refuse(key, f"key {shown(key.value)} is given twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_int(self, node: yaml.ScalarNode) -> int:
        digits = node.value.replace("_", "")
        if len(digits) > 40:  # far beyond 64 bits; Python refuses to read thousands of digits
            _refuse(node, f"a number of {len(digits)} digits; allowed: 64-bit numbers")
        return int(digits)


def _refuse(place: Any, problem: str) -> NoReturn:
    """Raise the error for ``place``, a node or event of PyYAML."""
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)


class _Dumper(yaml.SafeDumper):
    """``SafeDumper`` that also quotes text that only ``_Loader`` would read as a number."""


_DIGITS = "0123456789"
# YAML 1.1 reads 1e-3, without a point or a sign, as text.
_FLOAT_PATTERN = re.compile(
    r"""[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?$
      |[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$
      |[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$""",
    re.VERBOSE,
)
_Loader.add_implicit_resolver(_INT, re.compile(r"[-+]?(0|[1-9][0-9_]*)$"), list(f"-+{_DIGITS}"))
_Loader.add_constructor(_INT, _Loader.construct_int)
for _yaml in (_Loader, _Dumper):
    _yaml.add_implicit_resolver(_FLOAT, _FLOAT_PATTERN, list(f"-+.{_DIGITS}"))


def read_sweep_file(path: Path) -> dict[str, Plain]:
    """Read the top-level mapping of a sweep file. Raises ``SweepError``."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)  # /dev/zero has no end
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SweepError(f"not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise SweepError(f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise SweepError(f"is larger than a sweep file may be; allowed: {MAX_BYTES:,} bytes")
    entries = parse(text)
    if not isinstance(entries, dict):
        raise SweepError(f"is {shown(entries)}; allowed: a mapping such as 'name: smoke'")
    return entries


def dump_sweep(entries: dict[str, Plain]) -> str:
    """Return the sweep as text that ``read_sweep_file`` can read."""
    return yaml.dump(entries, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def parse(text: str) -> Plain:
    """Parse YAML into plain data. Raises ``SweepError``."""
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        context = f"{error.context}: " if error.context else ""
        raise SweepError(_one_line(f"{line}{context}{error.problem}")) from None
    except (yaml.YAMLError, ValueError) as error:  # PyYAML raises ValueError for dates such as 2024-99-99
        raise SweepError(_one_line(f"not YAML: {error}")) from None
    return _PlainData().of(value, "", MAX_DEPTH)


def _one_line(message: str) -> str:
    """Shorten a message of PyYAML to one line; it may have several, and names of any length."""
    line = one_line(message)
    return line if len(line) <= 300 else f"{line[:297]}..."


class _PlainData:
    """Converts YAML's output into JSON-compatible data, and counts its values."""

    def __init__(self) -> None:
        self.count = 0

    def of(self, value: object, where: str, depth: int) -> Plain:
        """Convert ``value``, which is at ``where``. Raises ``SweepError``."""
        self.count += 1
        if self.count > MAX_VALUES:
            raise SweepError(f"{where or 'file'} has too many values, aliases expanded; allowed: {MAX_VALUES:,}")
        if depth == 0:
            raise SweepError(f"{where} is nested more than {MAX_DEPTH} levels deep")
        match value:
            case None | bool():
                return value
            case str():
                if len(value) > MAX_TEXT or not value.isprintable():
                    allowed = f"printable text of up to {MAX_TEXT} characters"
                    raise SweepError(f"{where or 'value'} is {shown(value)}; allowed: {allowed}")
                return value
            case int() if -(2**63) <= value < 2**63:
                return value
            case float() if math.isfinite(value):
                return value
            case list():
                return [self.of(item, f"{where}[{index}]", depth - 1) for index, item in enumerate(value)]
            case dict():
                for key in value:
                    _check_key(key, where)
                return {key: self.of(item, f"{where}.{key}".lstrip("."), depth - 1) for key, item in value.items()}
        allowed = "text, 64-bit and finite numbers, true, false, null, lists, mappings"
        raise SweepError(f"{where or 'value'} is {shown(value)}; allowed: {allowed}")


def _check_key(key: object, where: str) -> None:
    place = f" of {where}" if where else ""
    if not isinstance(key, str):
        raise SweepError(f"key {shown(key)}{place} is not text; put it in quotes")
    if not 0 < len(key) <= MAX_KEY or not key.isprintable():
        raise SweepError(f"key {shown(key)}{place}; allowed: printable text of 1 to {MAX_KEY} characters")
