"""Attempts that are on disk but not in the tables yet: ``RESULTS/<sweep>/waiting/<trial_id>-<attempt>.rows``.

A file holds all rows of one attempt, so it takes one write, and a kill leaves all of them or none. Its first line is
a JSON object: the attempt's name, the bytes of each table, and the SHA-256 of what follows, one Arrow stream per table.
The writer checked the rows, so a file with the right digest needs no further check.

``README.md`` says why attempts wait. A reader reads the waiting ones first and the tables afterwards. As an
attempt enters the tables before its file here is removed, the reader finds it in one of the two, or in both.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal

import pyarrow as pa

from harness.results.arrow_schemas import SCHEMAS, Table
from harness.results.parquet_files import FaultError, put, reason_of
from kvcomm_core.files.regular_files import open_regular

WAITING: Literal["waiting"] = "waiting"
"""Their folder in a sweep's folder."""

ENDING = ".rows"

Rows = dict[Table, pa.Table]
"""The rows of an attempt, by table; only the tables in which it has any or must have a file."""

_MAX_HEADER = 10_000


def waiting_path(folder: Path, attempt: str) -> Path:
    """Return where an attempt (``<trial_id>-<number>``) waits in the folder of its sweep."""
    return folder / WAITING / f"{attempt}{ENDING}"


def write_waiting(path: Path, scratch: Path, tables: Mapping[Table, pa.Table]) -> int:
    """Write the rows of an attempt; they survive a crash once this returns. Return their bytes. Raise
    ``StoreError``."""
    streams = [_stream(rows) for rows in tables.values()]
    digest = hashlib.sha256()
    for stream in streams:
        digest.update(stream)
    header = {
        "attempt": path.name.removesuffix(ENDING),
        "bytes": {table: stream.size for table, stream in zip(tables, streams, strict=True)},
        "sha256": digest.hexdigest(),
    }
    lines = json.dumps(header).encode() + b"\n"
    put(path, scratch, lambda file: file.writelines([lines, *streams]))
    return sum(stream.size for stream in streams)


def read_waiting(path: Path) -> Rows:
    """Read the rows of a waiting attempt. Raise ``FileNotFoundError`` if it waits no longer, and ``StoreError``."""
    try:
        with open_regular(path) as file:
            header, content = file.readline(_MAX_HEADER), file.read()
        stated = json.loads(header)
        if stated["attempt"] != path.name.removesuffix(ENDING):
            raise ValueError(f"it is that of {stated['attempt']}")
        if hashlib.sha256(content).hexdigest() != stated["sha256"]:
            raise ValueError("its content does not have the digest in its first line")
        tables: Rows = {}
        start = 0
        for table in SCHEMAS:
            if table in stated["bytes"]:
                size = stated["bytes"][table]
                tables[table] = pa.ipc.open_stream(pa.py_buffer(content).slice(start, size)).read_all()
                start += size
        tables["trials"]  # every attempt has a row there
    except FileNotFoundError:
        raise
    except OSError as error:
        raise FaultError(path, "cannot be read", reason_of(error)) from None
    except (ValueError, KeyError, TypeError, pa.ArrowException) as error:
        reason = str(error) if type(error) is ValueError else "its first line is not that of a waiting attempt"
        raise FaultError(path, "is damaged", reason) from None
    return tables


def waiting_names(folder: Path) -> list[str]:
    """Return the names of the attempts that wait in the folder of a sweep."""
    return sorted(path.name.removesuffix(ENDING) for path in (folder / WAITING).glob(f"*{ENDING}"))


def read_all_waiting(folder: Path, *, without: Collection[Path] = ()) -> dict[str, Rows]:
    """Read the attempts that wait in the folder of a sweep, by name. Files in ``without`` count as absent. Raise
    ``StoreError``."""
    found: dict[str, Rows] = {}
    for name in waiting_names(folder):
        path = waiting_path(folder, name)
        if path not in without:
            try:
                found[name] = read_waiting(path)
            except FileNotFoundError:  # it entered the tables a moment ago
                continue
    return found


def _stream(rows: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return sink.getvalue()
