"""Records read back from Parquet: the same objects that were written, so that what takes them live takes them later.

A column that an earlier version did not write is None; one that this version does not know is left out.
"""

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

from harness.results.parquet_files import StoreError, read_records, read_trials
from harness.results.trial_result import SampleRecord, TrialResult, TrialRow, TurnRecord

T = TypeVar("T")


def read_rows(folder: Path) -> list[TrialRow]:
    """Every attempt in the folder of one sweep, in the order of ``(ok, attempt)``: of each trial, the last counts."""
    rows = [_record(TrialRow, row) for row in read_trials(folder).to_pylist()]
    return sorted(rows, key=lambda row: (row.status == "ok", row.attempt))


def counted(rows: list[TrialRow]) -> list[TrialRow]:
    """Of each trial the attempt that counts, in the order in which they began. ``rows`` as of ``read_rows``."""
    last = {row.trial_id: row for row in rows}
    return sorted(last.values(), key=lambda row: (row.started_at, row.trial_id))


def read_result(folder: Path, row: TrialRow) -> TrialResult:
    """An attempt with its turns and samples, in their order."""
    names = [f"{row.trial_id}-{row.attempt}"]
    turns = [_record(TurnRecord, turn) for turn in read_records(folder, "turns", names).to_pylist()]
    samples = [_record(SampleRecord, sample) for sample in read_records(folder, "samples", names).to_pylist()]
    return TrialResult(row, turns, samples)


def read_attempt(folder: Path, trial_id: str, attempt: int) -> TrialResult:
    """An attempt with its row, turns and samples. Raises ``StoreError`` if it is not there."""
    rows = read_records(folder, "trials", [f"{trial_id}-{attempt}"]).to_pylist()
    if not rows:
        raise StoreError(f"{folder} has no attempt {attempt} of trial {trial_id}")
    return read_result(folder, _record(TrialRow, rows[0]))


def _record(record: type[T], row: dict[str, Any]) -> T:
    return record(**{field.name: row.get(field.name) for field in dataclasses.fields(record)})  # type: ignore[arg-type]
