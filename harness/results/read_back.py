"""Records read back from Parquet. They equal the objects written, so that live and later consumers get the same.

A column that an earlier version did not write is None; a column that this version does not know is dropped.
"""

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

from harness.results.parquet_files import StoreError, read_records, read_trials
from harness.results.trial_result import SampleRecord, TrialResult, TrialRow, TurnRecord

T = TypeVar("T")


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
    """Read an attempt with its turns and samples, in their order."""
    names = [f"{row.trial_id}-{row.attempt}"]
    turns = [_record(TurnRecord, turn) for turn in read_records(folder, "turns", names).to_pylist()]
    samples = [_record(SampleRecord, sample) for sample in read_records(folder, "samples", names).to_pylist()]
    return TrialResult(row, turns, samples)


def read_row(folder: Path, trial_id: str, attempt: int) -> TrialRow:
    """Read the row of an attempt. Raise ``StoreError`` if it is missing."""
    rows = read_records(folder, "trials", [f"{trial_id}-{attempt}"]).to_pylist()
    if not rows:
        raise StoreError(f"{folder} has no attempt {attempt} of trial {trial_id}")
    return _record(TrialRow, rows[0])


def read_attempt(folder: Path, trial_id: str, attempt: int) -> TrialResult:
    """Read an attempt with its row, turns and samples. Raise ``StoreError`` if it is missing."""
    return read_result(folder, read_row(folder, trial_id, attempt))


def _record(record: type[T], row: dict[str, Any]) -> T:
    return record(**{field.name: row.get(field.name) for field in dataclasses.fields(record)})  # type: ignore[arg-type]
