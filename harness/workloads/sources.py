"""Question files: finding them, and reading their rows.

The search order is: the given path, the folder ``data/`` under the current directory, the Hub's cache, an installed
package that ships the file, the Hub. The Hub's revision is pinned, so that a download is always the same file. The name
determines the form: ``.parquet``, ``.gz`` (jsonl inside), and jsonl for every other ending.

Text is UTF-8, with or without a byte order mark; lines may end in CRLF. The decompressed content is bounded, however
small the file is on disk, so that a compressed file cannot fill the memory.
"""

import csv
import gzip
import io
import reprlib
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness.workloads.base import DataMissingError
from kvcomm_core.config import one_line, shown
from kvcomm_core.files.published_files import HubError, HubFile, PackageFile
from kvcomm_core.files.regular_files import open_regular
from kvcomm_core.files.strict_json import parse_json

MAX_LINE = 10_000_000
"""Maximum bytes of a line, and of a row of Parquet; the longest in a benchmark has some thousands."""
MAX_BYTES = 256_000_000
"""Maximum bytes of a file, decompressed."""
MAX_ROWS = 1_000_000

_BATCH = 16
"""Number of Parquet rows decompressed at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """All places where the file of one workload may be."""

    form: str
    """The values that ``workload.path`` may name, such as ``a jsonl file``."""

    local: tuple[Path, ...]
    """Paths to try under the current directory, in this order."""

    hub: HubFile

    package: PackageFile | None = None

    def available(self, path: str | None) -> str | None:
        """Return None if the file is available or the Hub can be reached, else one line saying why not. Takes seconds
        at most.

        ``path`` is the file that the user named, if any; no other file is then accepted.
        """
        if path is not None:
            try:
                return None if Path(path).exists() else f"no such file: {path}"
            except OSError as error:
                return f"{shown(path)} cannot be looked for: {error.strerror}"
        if self._on_disk() is not None:
            return None
        reason = self.hub.unavailable()
        return reason and f"no file {self._names()} here, and the Hub cannot be reached ({reason})"

    def find(self, path: str | None, workload: str) -> Path:
        """Return the file, fetched from the Hub if necessary. Raise ``DataMissingError``, which names the workload
        and says what the user can do."""
        if (missing := self.available(path)) is None:
            try:
                return Path(path) if path is not None else self._on_disk() or self.hub.download()
            except HubError as error:
                missing = str(error)
        install = f", or pip install {self.package.distribution}" if self.package else ""
        raise DataMissingError(
            f"{workload}: {missing}. Either set workload.path to {self.form}, or put one at {self._names()} under the "
            f"current directory, or, with network, fetch it into the Hub's cache: hf download {self.hub.repo_id} "
            f"{self.hub.filename} --repo-type dataset --revision {self.hub.revision}{install}"
        )

    def _on_disk(self) -> Path | None:
        local = next((path for path in self.local if path.exists()), None)
        return local or self.hub.cached() or (self.package.find() if self.package else None)

    def _names(self) -> str:
        return " or ".join(str(path) for path in self.local)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file."""

    place: str
    """File and line, with which every message about the row begins."""

    fields: dict[str, Any]

    def text(self, field: str) -> str:
        """Return the field's text unchanged. Raise ``ValueError`` unless it is text that is not blank."""
        value = self.fields.get(field)
        if not isinstance(value, str) or not value.strip():
            raise self.refuse(field, "text that is not empty")
        return value

    def refuse(self, field: str, allowed: str) -> ValueError:
        """Return the error for an invalid field."""
        return ValueError(f"{self.place}: {field} is {reprlib.repr(self.fields.get(field))}; allowed: {allowed}")


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a jsonl, gzipped jsonl or Parquet file, at least one.

    Raise ``ValueError`` naming file and line, ``OSError`` if the file cannot be opened.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; allowed: a file")
    with open_regular(path) as file:
        if path.suffix == ".parquet":
            found = _parquet_rows(file, path)
        else:
            found = (_parse(path, number, line) for number, line in _lines(file, path))
        rows: list[Row] = []
        for row in found:
            if len(rows) == MAX_ROWS:
                raise ValueError(f"{path}: too many rows; allowed: {MAX_ROWS:,}")
            rows.append(row)
    if not rows:
        raise ValueError(f"{path}: holds no rows; allowed: one or more")
    return rows


def read_table(path: Path) -> list[Row]:
    """Read the rows of a CSV file with a header, or of any other file that ``read_rows`` reads, and raise as it
    does."""
    return read_csv(path) if path.suffix == ".csv" and not path.is_dir() else read_rows(path)


def read_csv(path: Path, names: Sequence[str] | None = None) -> list[Row]:
    """Read the rows of a CSV file, whose columns are ``names``, or with None have their names in the first row. Raise
    as ``read_rows`` does, but return no rows if there are none and ``names`` is given.

    A row's line is its last one, since a quoted field may span several.
    """
    with_header = names is None
    rows: list[Row] = []
    with open_regular(path) as file:
        # A quoted field may hold line ends, which the csv module must see unchanged.
        text = "".join(_text(path, number, line) for number, line in _lines(file, path))
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for values in reader:
            place = f"{path} line {reader.line_num}"
            if with_header and not values:
                continue
            if names is None:
                names = _header(values, place)
                continue
            if len(values) != len(names):
                raise ValueError(f"{place}: {len(values)} columns; allowed: {len(names)} ({', '.join(names)})")
            rows.append(Row(place, dict(zip(names, values, strict=True))))
            if len(rows) > MAX_ROWS:
                raise ValueError(f"{path}: too many rows; allowed: {MAX_ROWS:,}")
    except csv.Error as error:
        raise ValueError(f"{path} line {reader.line_num}: not CSV ({error})") from None
    if with_header and not rows:
        raise ValueError(f"{path}: holds no rows; allowed: a header, and one or more")
    return rows


def _header(names: Sequence[str], place: str) -> Sequence[str]:
    for name in names:
        if not name.strip() or names.count(name) > 1:
            raise ValueError(f"{place}: has the column {shown(name)}; allowed: names, each once")
    return names


def _lines(file: IO[bytes], path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file with their numbers from 1, decompressed if necessary, without a byte order mark."""
    number = total = 0
    compressed = path.suffix == ".gz"
    with _readable(path, "gzip" if compressed else "readable"), gzip.open(file) if compressed else file as content:
        while line := content.readline(MAX_LINE + 1):
            number += 1
            total += len(line)
            if len(line) > MAX_LINE:
                raise ValueError(f"{path} line {number}: too long; allowed: {MAX_LINE:,} bytes")
            if total > MAX_BYTES:
                raise ValueError(f"{path}: too large; allowed: {MAX_BYTES:,} bytes, decompressed")
            yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


def _parquet_rows(file: IO[bytes], path: Path) -> Iterator[Row]:
    number = total = 0
    with (
        _readable(path, "Parquet"),
        pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True) as parquet,
    ):
        names = parquet.schema_arrow.names
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{path}: has two columns {shown(name)}; allowed: each once")
        # Arrow's own threads may hold the file until the process ends, and then abort it (apache/arrow#33975).
        for batch in parquet.iter_batches(batch_size=_BATCH, use_threads=False):
            total += batch.nbytes
            if batch.nbytes > _BATCH * MAX_LINE or total > MAX_BYTES:
                raise ValueError(f"{path}: too large; allowed: {MAX_BYTES:,} bytes, decompressed")
            try:
                found = batch.to_pylist()
            except (ValueError, OverflowError) as error:  # text that is not UTF-8, dates unknown to Python
                raise ValueError(f"{path} rows from {number + 1} on: {' '.join(str(error).split())[:200]}") from None
            for fields in found:
                number += 1
                yield Row(f"{path} row {number}", fields)


@contextmanager
def _readable(path: Path, form: str) -> Iterator[None]:
    """Turn the errors that readers of compressed forms raise for a damaged file into ``ValueError``."""
    try:
        yield
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        reason = one_line(error)[:200]
        raise ValueError(f"{path}: not a {form} file ({reason})") from None


def _text(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} line {number}: not UTF-8 text (byte {error.start})") from None


def _parse(path: Path, number: int, line: bytes) -> Row:
    place = f"{path} line {number}"
    text = _text(path, number, line).strip()
    try:
        fields = parse_json(text)
    except ValueError as error:
        raise ValueError(f"{place}: not JSON ({error}); allowed: one JSON object per line") from None
    if not isinstance(fields, dict):
        raise ValueError(f"{place}: {reprlib.repr(fields)}; allowed: one JSON object per line")
    return Row(place, fields)
