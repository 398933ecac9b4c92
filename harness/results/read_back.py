"""Records read back from Parquet. They equal the objects written, so that live and later consumers get the same.

A column that an earlier version did not write is None; a column that this version does not know is dropped.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from harness.results.parquet_files import StoreError
from harness.results.sweep_folder import read_trials, read_whole
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
    for _, tables in read_whole(folder, attempts):
        (row,) = tables["trials"].to_pylist()
        turns = [_record(TurnRecord, turn) for turn in tables["turns"].to_pylist()] if "turns" in tables else []
        samples = [_record(SampleRecord, one) for one in tables["samples"].to_pylist()] if "samples" in tables else []
        yield TrialResult(_record(TrialRow, row), turns, samples)


def _record(record: type[T], row: dict[str, Any]) -> T:
    return record(**{field.name: row.get(field.name) for field in dataclasses.fields(record)})  # type: ignore[arg-type]
