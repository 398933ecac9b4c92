"""Strict reading of JSON that others may have written, with bounded size and nesting.

The reader is stricter than Python's own. It refuses duplicate keys, NaN, numbers beyond a float, halves of surrogate
pairs (which cannot be stored as UTF-8) and nesting that would exceed Python's recursion limit later. Each of these
would read as another value than the one written, or break something far from the file.
"""

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from kvcomm_core.files.regular_files import read_regular

MAX_BYTES = 64 << 20
"""Size limit of a file in bytes; real tokenizer files take up to some 20 MB."""

MAX_DEPTH = 50
"""Maximum nesting of lists and objects. Documents that the harness writes and benchmarks publish have fewer than ten
levels."""


class JsonError(ValueError):
    """A file holds no JSON object; the message is one line that names the file."""


def read_object(path: Path) -> dict[str, Any]:
    """Read the JSON object in a file. Raise ``JsonError``."""
    try:
        content = read_regular(path, MAX_BYTES)
    except OSError as error:
        raise JsonError(f"{path}: {error.strerror or error}") from None
    try:
        value = parse_json(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise JsonError(f"{path}: not UTF-8 text (byte {error.start}); allowed: a JSON object") from None
    except ValueError as error:  # a JSONDecodeError, or a number that Python refuses to read
        raise JsonError(f"{path}: not valid JSON ({str(error).splitlines()[0]}); allowed: a JSON object") from None
    if not isinstance(value, dict):
        raise JsonError(f"{path}: holds a {type(value).__name__}; allowed: a JSON object")
    return value


def parse_json(text: str) -> object:
    """Return the value of one JSON document. Raise ``ValueError`` with a one-line message."""
    try:
        value: object = json.loads(
            text, object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite_float
        )
    except RecursionError:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep") from None
    if not (text.isascii() and "\\u" not in text and text.count("{") + text.count("[") <= MAX_DEPTH):
        _check(value)  # else there is nothing to find, as in the records of thousands of trials
    return value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for index, key in enumerate(keys) if key in keys[:index])
        raise ValueError(f"key {twice[:100]!r} is given twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON; allowed: finite numbers")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:100]} is too large for a number")
    return value


def _check(value: object) -> None:
    """Check nesting and strings, without recursion, since deep nesting is what it guards against."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[object] = []
        for one in level:
            if isinstance(one, str):
                _check_text(one)
            elif isinstance(one, dict):
                below += one.keys()
                below += one.values()
            elif isinstance(one, list):
                below += one
        if not below:
            return
        level = below
    raise ValueError(f"nested more than {MAX_DEPTH} levels deep")


def _check_text(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise ValueError(f"a text holds {half}, half of a surrogate pair; allowed: whole characters") from None
