"""Sweep files as plain data: strict YAML in, YAML out.

PyYAML reads the structure, and this module the values. It is stricter than YAML: it rejects what would run an
experiment other than the one written down, or hide the difference, such as duplicate keys, tags, merge keys, numbers
that are not finite, and unprintable characters. 010, 1:30 and dates stay text. Size, depth and the expansion of aliases
are bounded, so that a file cannot hang the command.
"""

import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import yaml

from kvcomm_core.config import one_line, shown

Plain = str | int | float | bool | None | list["Plain"] | dict[str, "Plain"]

MAX_BYTES = 1_000_000
MAX_DEPTH = 9
"""Limit of nesting. A sweep file nests at most eight levels; a deeper one is wrong or refers to itself."""
MAX_VALUES = 500_000
"""The most values in a file, with aliases expanded."""
MAX_TEXT = 1000
"""The most characters of a text; the longest texts are paths."""
MAX_KEY = 100
"""The most characters of a key."""

_WORDS: dict[str, bool | None] = {"": None, "~": None}
for _value, _words in ((None, ["null"]), (True, ["true", "yes", "on"]), (False, ["false", "no", "off"])):
    _WORDS |= {form: _value for word in _words for form in (word, word.capitalize(), word.upper())}
_INT = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+")


class SweepError(ValueError):
    """The sweep cannot run as written. The message is one line with the field, its value and what is allowed."""


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


def as_written(value: Plain) -> str:
    """Return a value in one line, as a sweep file spells it."""
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=True, allow_unicode=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


class _Dumper(yaml.SafeDumper):
    """``SafeDumper`` that also quotes text that only this module would read as a number, such as 1e-3."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"({_FLOAT.pattern})$"), list("-+.0123456789"))


class _Loader(yaml.BaseLoader):
    """``BaseLoader`` whose nodes have no tag unless the file gives one."""

    def resolve(self, *_: object) -> str:
        return ""


def parse(text: str) -> Plain:
    """Parse YAML into plain data. Raises ``SweepError``."""
    try:
        node = yaml.compose(text, Loader=_Loader)
        return None if node is None else _plain(node, "", MAX_DEPTH, itertools.count())
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        context = f"{error.context}: " if error.context else ""
        raise SweepError(one_line(f"{line}{context}{error.problem}")[:300]) from None
    except yaml.YAMLError as error:
        raise SweepError(one_line(f"not YAML: {error}")[:300]) from None
    except RecursionError:
        raise SweepError(f"is nested more than {MAX_DEPTH} levels deep") from None


def _plain(node: yaml.Node, where: str, depth: int, counter: Iterator[int]) -> Plain:
    """Convert a node, which is at ``where``, to plain data. ``counter`` counts the values so far."""
    if next(counter) == MAX_VALUES:
        raise SweepError(f"{where or 'file'} has too many values, aliases expanded; allowed: {MAX_VALUES:,}")
    if depth == 0:
        raise SweepError(f"{where} is nested more than {MAX_DEPTH} levels deep")
    _refuse_tag(node)
    if isinstance(node, yaml.ScalarNode):
        value = _scalar(node, where or "value")
        if isinstance(value, str) and not (len(value) <= MAX_TEXT and value.isprintable()):
            allowed = f"printable text of up to {MAX_TEXT} characters"
            raise SweepError(f"{where or 'value'} is {shown(value)}; allowed: {allowed}")
        return value
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, f"{where}[{index}]", depth - 1, counter) for index, item in enumerate(node.value)]
    entries: dict[str, Plain] = {}
    for key_node, item in node.value:
        key = _key(key_node, f" of {where}" if where else "")
        if key in entries:
            _refuse(key_node, f"key {shown(key)} is given twice")
        entries[key] = _plain(item, f"{where}.{key}".lstrip("."), depth - 1, counter)
    return entries


def _scalar(node: yaml.ScalarNode, where: str) -> str | int | float | bool | None:
    text: str = node.value
    digits = text.replace("_", "")
    number: int | float = math.inf
    if node.style:  # in quotes
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        number = int(digits[:25])  # Python refuses to read thousands of digits
    elif _FLOAT.fullmatch(text):
        number = float(digits)
    elif text.lower().lstrip("+-") not in (".inf", ".nan"):
        return text
    if math.isinf(number) or (isinstance(number, int) and not -(2**63) <= number < 2**63):
        raise SweepError(f"{where} is {text[:40]}; allowed: 64-bit and finite numbers")
    return number


def _key(node: yaml.Node, place: str) -> str:
    _refuse_tag(node)
    if not isinstance(node, yaml.ScalarNode):
        _refuse(node, "a list or mapping as a key; allowed: text")
    if node.value == "<<":
        _refuse(node, "merge key '<<'; allowed: keys written out, or 'extends: FILE' for a whole file")
    key = _scalar(node, f"a key{place}")
    if not isinstance(key, str):
        raise SweepError(f"key {shown(key)}{place} is not text; put it in quotes")
    if not 0 < len(key) <= MAX_KEY or not key.isprintable():
        raise SweepError(f"key {shown(key)}{place}; allowed: printable text of 1 to {MAX_KEY} characters")
    return key


def _refuse_tag(node: yaml.Node) -> None:
    if node.tag:
        _refuse(node, f"tag {shown(node.tag.replace('tag:yaml.org,2002:', '!!'))}; allowed: values without tags")


def _refuse(node: yaml.Node, problem: str) -> NoReturn:
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
