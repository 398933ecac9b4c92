"""Copies of results to share: the trials that count, in one file per table."""

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from harness.results.arrow_schemas import SCHEMAS, Table
from harness.results.packing.crate import CRATE, crate_of
from harness.results.parquet_files import SCRATCH, StoreError, part_name
from harness.results.sweep_folder import names_of, read_attempts, read_records, read_trials, sweep_folders, tables_of
from kvcomm_core.files.atomic_write import replacing

_BESIDE = ("sweep.yaml", "environment.json")
_TEXTS: dict[Table, tuple[str, ...]] = {
    "turns": ("prompt_text", "output_text", "tool_text"),
    "samples": ("answer_text",),
}
"""Columns that may hold a question's words."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A sweep that was packed."""

    sweep: str
    trials: int
    nbytes: int


def pack(results: Path, target: Path, *, without_texts: bool = False) -> list[Packed]:
    """Copy the sweeps of a results folder to ``target``, a new folder, which appears once it is whole. A crate beside
    them says where they come from.

    Of each trial the copy holds the attempt that counts: the latest ``ok`` one, or the latest if none is ``ok``.
    ``without_texts`` leaves out the texts of prompts, answers and tools, for questions that may not be passed on:
    answers quote them. These columns of turns are null, and ``answer_text`` of samples is empty. Raise ``StoreError``
    if the target exists, or something cannot be read or written.
    """
    sources = sweep_folders(results)
    if target.exists():
        raise StoreError(f"{target} exists; allowed: a folder that does not exist yet")
    scratch = target.absolute().parent / SCRATCH
    try:
        with replacing(target, scratch, synced=False) as new:
            trials = {
                source.resolve().name: _pack(source, new / source.resolve().name, without_texts) for source in sources
            }
            (new / CRATE).write_text(crate_of(new, trials), encoding="utf-8")
            return [Packed(name, len(rows), _nbytes(new / name)) for name, rows in trials.items()]
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            scratch.rmdir()


def _pack(source: Path, target: Path, without_texts: bool) -> pa.Table:
    """Copy a sweep, and return its rows of ``trials``."""
    attempts = {
        f"{trial_id}-{attempt.last if attempt.finished is None else attempt.finished}"
        for trial_id, attempt in read_attempts(source).items()
    }
    (target / "trials").mkdir(parents=True)
    trials = read_trials(source)
    trials = trials.filter(pa.array([name in attempts for name in names_of(trials)], pa.bool_()))
    names = names_of(trials)
    kinds = trials.select(["workload", "kl_mean", "anchors_at_end"]).to_pylist()
    present = {table for kind in kinds for table in tables_of(**kind)}
    for table in present:
        rows = trials if table == "trials" else read_records(source, table, names)
        for name in _TEXTS.get(table, ()) if without_texts else ():
            field = SCHEMAS[table].field(name)
            empty = pa.array([None if field.nullable else ""] * len(rows), field.type)
            rows = rows.set_column(rows.schema.get_field_index(name), field, empty)
        _write(target, table, rows)
    for name in _BESIDE:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
    return trials


def _nbytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _write(target: Path, table: Table, rows: pa.Table) -> None:
    (target / table).mkdir(exist_ok=True)
    path = target / table / f"{part_name(1)}.parquet"
    pq.write_table(rows, path, compression="zstd", write_page_checksum=True)
