"""A Parquet file of results: whole or absent, and accepted only if its content can be that of trials.

``RESULTS/<sweep>/<table>/`` holds two kinds of files, which never change: ``<trial_id>-<attempt>.parquet`` with the
rows of one attempt, and ``part-<number>-<mark>.parquet`` with those of several. Files of one name in several tables
belong together. The file in ``trials`` comes last: without it the others do not count. The mark is random, so that two
machines that write to copies of one folder never give different rows the same name; earlier versions had none.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from harness.results.arrow_schemas import Table
from harness.results.table_faults import columns_to_check, fault_of
from kvcomm_core.config import one_line
from kvcomm_core.files.atomic_write import replacing
from kvcomm_core.files.regular_files import open_regular

SCRATCH = ".partial"
"""Folder in a sweep's folder for files that are not whole yet."""

_PART = re.compile(r"part-(\d{6,})(?:-[0-9a-f]{8})?")


class StoreError(Exception):
    """A results folder cannot be written or read; the message is one line that names the path."""


class FaultError(StoreError):
    """A file cannot be accepted as results."""

    def __init__(self, path: Path, verdict: str, reason: str) -> None:
        whose = "its trials" if part_number(path.stem) is not None else "its trial"
        super().__init__(f"{path} {verdict}: {reason}; delete it to run {whose} again")
        self.reason = reason


def part_name(number: int, mark: str = "") -> str:
    """Return the name, without its ending, of the files that hold several attempts. ``mark`` has eight digits, in
    hexadecimal, or none."""
    return f"part-{number:06d}-{mark}" if mark else f"part-{number:06d}"


def part_number(stem: str) -> int | None:
    """Return the number in the name of such a file; None if it is that of a single attempt, or any other."""
    found = _PART.fullmatch(stem)
    return int(found[1]) if found else None


def read_file(
    path: Path, table: Table, *, without_texts: bool = False, columns: Iterable[str] | None = None
) -> pa.Table:
    """Read a file of ``table`` and check it: whole, without its long texts, or only the ``columns`` that it has.

    Values of columns that are not read are not checked. Raise ``StoreError`` if it has a fault.
    """
    try:
        with (
            open_regular(path) as file,
            pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True) as parquet,
        ):
            schema = parquet.schema_arrow
            chosen = columns_to_check(schema, table) if without_texts else None
            if columns is not None:
                chosen = [name for name in columns if name in schema.names]
            # Arrow's own threads may hold the file until the process ends, and then abort it (apache/arrow#33975).
            rows = parquet.read(chosen, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise FaultError(path, "cannot be read as Parquet", reason_of(error)) from None
    fault = fault_of(rows, schema, table, path.stem, several=part_number(path.stem) is not None)
    if fault is not None:
        raise FaultError(path, "is damaged", fault)
    return rows


def fault_within(path: Path, table: Table, *, without_texts: bool = False) -> str | None:
    """Read a file of ``table``, whole or without its long texts, and return its fault; None if it has none."""
    try:
        read_file(path, table, without_texts=without_texts)
    except FaultError as fault:
        return fault.reason
    return None


def write_file(target: Path, scratch: Path, rows: pa.Table) -> None:
    """Write a Parquet file that is whole or absent, and survives a crash once this returns. Raise ``StoreError``."""
    put(target, scratch, lambda file: pq.write_table(rows, file, write_page_checksum=True))


def put(target: Path, scratch: Path, write: Callable[[IO[bytes]], object], *, synced: bool = True) -> None:
    """Replace any file at once by what ``write`` writes. Raise ``StoreError`` if the disk does not accept it."""
    try:
        with replacing(target, scratch, synced=synced) as new, new.open("wb") as file:
            write(file)
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error.strerror or error}") from error


def reason_of(error: OSError | pa.ArrowException) -> str:
    """Return the reason in an error of the disk or of Arrow, in one line."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return one_line(reason)[:300]
