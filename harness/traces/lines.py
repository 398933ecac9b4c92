"""The JSON objects of a log, one after the other, in bounded memory.

A log has an object per line. A file may also be one JSON document, an object or a list of objects, which may span
lines; it is read whole.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from harness.traces.call import TraceError
from kvcomm_core.config import one_line, shown
from kvcomm_core.files.regular_files import open_regular

MAX_LINE = 64 << 20
"""Maximum bytes of a line. A prompt of a million tokens has about four."""
MAX_DOCUMENT = 128 << 20
"""Maximum bytes of a file that is one JSON document."""


@dataclass(frozen=True, slots=True)
class Record:
    """One object of a log."""

    place: str
    """File and line."""
    fields: dict[str, Any]
    offset: int | None
    """The byte at which its line begins; None if the file is one document."""


def read_objects(path: Path) -> Iterator[Record]:
    """Yield the objects of a log. Raise ``TraceError`` naming file and line."""
    with opened(path) as file:
        offset = 0
        for number, line in _lines(file, path):
            if line.strip():
                found = _parsed(line)
                if number == 1 and isinstance(found, json.JSONDecodeError) and found.pos >= len(found.doc.rstrip()):
                    found = _rest_too(line, file, path) or found
                if isinstance(found, list):
                    yield from _listed(found, path)
                    return
                if not isinstance(found, dict):
                    raise TraceError(f"{path} line {number}: {_fault(found)}; allowed: one JSON object per line")
                yield Record(f"{path} line {number}", found, offset)
            offset += len(line)


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a log, plain or gzipped. Raise ``TraceError`` if it cannot be read."""
    try:
        with open_regular(path) as file, gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file as content:
            yield cast("IO[bytes]", content)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise TraceError(f"{path}: cannot be read: {reason}") from None


def object_at(file: IO[bytes], offset: int) -> dict[str, Any]:
    """Return the object whose line begins at a byte of a plain log. ``read_objects`` has read it before."""
    file.seek(offset)
    found = _parsed(file.readline(MAX_LINE + 1))
    if not isinstance(found, dict):
        raise TraceError(f"{file.name}: it changed while it was read")
    return found


def _lines(file: IO[bytes], path: Path) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise TraceError(f"{path} line {number}: too long; allowed: {MAX_LINE:,} bytes")
        yield number, line


def _parsed(line: bytes) -> object:
    """Return a line's value, or the error that says why it has none."""
    try:
        return json.loads(line.removeprefix(b"\xef\xbb\xbf").decode())
    except (ValueError, RecursionError) as error:
        return error


def _rest_too(line: bytes, file: IO[bytes], path: Path) -> object:
    """Return the document that the first line begins; None if the file is none."""
    whole = line + file.read(MAX_DOCUMENT + 1)
    if len(whole) > MAX_DOCUMENT:
        raise TraceError(f"{path}: one JSON document of more than {MAX_DOCUMENT:,} bytes; allowed: an object per line")
    found = _parsed(whole)
    return [found] if isinstance(found, dict) else found if isinstance(found, list) else None


def _listed(objects: list[object], path: Path) -> Iterator[Record]:
    for index, found in enumerate(objects):
        place = f"{path} object {index + 1}"
        if not isinstance(found, dict):
            raise TraceError(f"{place}: {shown(found)}; allowed: a JSON object")
        yield Record(place, found, None)


def _fault(found: object) -> str:
    return f"not JSON ({one_line(found)[:200]})" if isinstance(found, Exception) else shown(found)
