"""Records read back from Parquet. They equal the objects written, so that live and later consumers get the same.

A column that an earlier version did not write is None; a column that this version does not know is dropped.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from harness.results.arrow_schemas import Table
from harness.results.parquet_files import StoreError, part_number
from harness.results.sweep_folder import attempts_in, joined, parquet_files, read_stem, read_trials, read_whole
from harness.results.trial_result import SampleRecord, TrialResult, TrialRow, TurnRecord
from harness.results.waiting_files import Rows, read_waiting, waiting_path

T = TypeVar("T")

OF_RESULT: tuple[Table, ...] = ("turns", "samples", "trials")
"""The tables that are read for a ``TrialResult``; those of measurements may be many times larger."""
_PARTS = 4
"""Files of several attempts that a reader keeps: that of an attempt, and those of its baselines."""


def read_rows(folder: Path) -> list[TrialRow]:
    """Read every attempt in the folder of one sweep, ordered by ``(ok, attempt)``: the last one of each trial
    counts."""
    rows = [_record(TrialRow, row) for row in read_trials(folder).to_pylist()]
    return sorted(rows, key=lambda row: (row.status == "ok", row.attempt))


def counted(rows: list[TrialRow]) -> list[TrialRow]:
    """Return the attempt that counts for each trial, in the order in which they began. ``rows`` are those of
    ``read_rows``."""
    last = {row.trial_id: row for row in rows}
    return sorted(last.values(), key=lambda row: (row.started_at, row.trial_id))


def read_result(folder: Path, row: TrialRow) -> TrialResult:
    """Read an attempt with its turns and samples, in their order. Raise ``StoreError`` if it is missing."""
    return read_attempt(folder, row.trial_id, row.attempt)


def read_attempt(folder: Path, trial_id: str, attempt: int) -> TrialResult:
    """Read an attempt with its row, turns and samples. Raise ``StoreError`` if it is missing."""
    for result in read_results(folder, [f"{trial_id}-{attempt}"]):
        return result
    raise StoreError(f"{folder} has no attempt {attempt} of trial {trial_id}")


def read_results(folder: Path, attempts: Sequence[str]) -> Iterator[TrialResult]:
    """Read the named attempts (``<trial_id>-<attempt>``), in any order; each file is read once. Leave out those that
    are missing."""
    for _, tables in read_whole(folder, attempts, OF_RESULT):
        yield _result(tables)


class AttemptReader:
    """Reads attempts of a sweep one at a time, while others may still end. A file of several attempts is read once, as
    long as it is among the last few that were needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._parts: dict[str, str] = {}
        """The part in which an attempt is."""
        self._known: set[Path] = set()
        """The parts whose attempts are known. They never change."""
        self._read: dict[str, dict[str, Rows]] = {}

    def row(self, trial_id: str, attempt: int) -> TrialRow:
        """Read the row of an attempt. Raise ``StoreError`` if it is missing."""
        (row,) = self._rows(f"{trial_id}-{attempt}")["trials"].to_pylist()
        return _record(TrialRow, row)

    def result(self, trial_id: str, attempt: int) -> TrialResult:
        """Read an attempt with its row, turns and samples. Raise ``StoreError`` if it is missing."""
        return _result(self._rows(f"{trial_id}-{attempt}"))

    def records(self, table: Table, attempts: Sequence[str]) -> pa.Table:
        """Read the rows of the named attempts in one of ``OF_RESULT``, in their order. Raise ``StoreError`` if one is
        missing."""
        found = [rows[table] for rows in map(self._rows, attempts) if table in rows]
        return joined(found, self.folder, table, None)

    def _rows(self, name: str) -> Rows:
        with contextlib.suppress(FileNotFoundError):  # first: if it moves meanwhile, it is in a file afterwards
            return read_waiting(waiting_path(self.folder, name))
        if (self.folder / "trials" / f"{name}.parquet").exists():
            return dict(read_stem(self.folder, name, [name], OF_RESULT))[name]
        if name not in self._parts:
            self._look()
        part = self._parts.get(name)
        if part is None:
            raise StoreError(f"{self.folder} has no attempt {name}")
        rows = self._read.pop(part, None) or dict(read_stem(self.folder, part, self._attempts_in(part), OF_RESULT))
        self._read[part] = rows  # the last now
        if len(self._read) > _PARTS:
            del self._read[next(iter(self._read))]
        return rows[name]

    def _look(self) -> None:
        """Learn of the parts that were written since the last look."""
        for path in set(parquet_files(self.folder / "trials")) - self._known:
            if part_number(path.stem) is not None:
                self._parts.update(dict.fromkeys(attempts_in(path), path.stem))
                self._known.add(path)

    def _attempts_in(self, part: str) -> list[str]:
        return [name for name, of_name in self._parts.items() if of_name == part]


def _result(tables: Rows) -> TrialResult:
    (row,) = tables["trials"].to_pylist()
    turns = [_record(TurnRecord, turn) for turn in tables["turns"].to_pylist()] if "turns" in tables else []
    samples = [_record(SampleRecord, one) for one in tables["samples"].to_pylist()] if "samples" in tables else []
    return TrialResult(_record(TrialRow, row), turns, samples)


def _record(record: type[T], row: dict[str, Any]) -> T:
    return record(**{field.name: row.get(field.name) for field in dataclasses.fields(record)})  # type: ignore[arg-type]
