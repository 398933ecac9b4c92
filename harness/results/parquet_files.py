"""Results on disk: Parquet files that are whole or absent.

``RESULTS/<sweep>/<table>/<trial_id>-<attempt>.parquet`` is one immutable file per table and attempt, beside
``sweep.yaml`` and ``environment.json``. Not every attempt has a file in every table. ``fidelity`` has attempts with
turns that were compared with dense, ``anchors`` those on questions by a method with pools, ``probes`` those of
``blend``, and ``kv_statistics`` those of the probes of keys and values. The ``trials`` file comes last. Without it the
attempt does not count, and readers ignore its rows in other tables.
"""

import contextlib
import dataclasses
import errno
import fcntl
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from harness.natural_order import natural
from harness.results.arrow_schemas import RECORDS, SCHEMAS, Table, columns_of
from harness.results.parameter_columns import with_parameters
from harness.results.table_faults import columns_to_check, fault_of
from harness.results.trial_result import TrialResult
from harness.workloads import UnknownWorkloadError, find_workload
from kvcomm_core.config import one_line
from kvcomm_core.files.atomic_write import empty_scratch, replacing
from kvcomm_core.files.regular_files import open_regular, require_regular

RUNNING = "running.json"
"""File in which a running sweep describes itself; the controller chooses its content."""

SCRATCH = ".partial"
"""Folder in a sweep's folder for files that are not whole yet."""
_OF_EVERY_ATTEMPT = ("turns", "samples", "trials")


class StoreError(Exception):
    """A results folder cannot be written or read; the message is one line that names the path."""


class RowsError(Exception):
    """The rows of an attempt do not fit a file, on any disk, and nothing of it was kept. The message says why."""


class ResultsWriter:
    """Writes the results of one sweep. Only one writer at a time may hold a sweep's folder."""

    def __init__(self, results: Path, sweep: str) -> None:
        """Create the folders and take the lock. Raise ``StoreError`` if that fails."""
        self.folder = results / sweep
        try:
            for table in SCHEMAS:
                (self.folder / table).mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.folder / ".lock")
            empty_scratch(self.folder / SCRATCH)
        except BlockingIOError:
            raise StoreError(f"results folder {self.folder} is in use by another kvcomm run") from None
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise StoreError(f"results folder {self.folder} cannot be written: {error.strerror}{where}") from None

    def write(self, result: TrialResult) -> None:
        """Write one attempt to disk. When this returns, it survives a crash of the machine.

        Raise ``RowsError`` if its rows do not fit the tables, and ``StoreError`` if the disk does not accept them.
        """
        name = f"{result.trial.trial_id}-{result.trial.attempt}.parquet"
        try:
            names = _tables(result.trial.workload, result.trial.kl_mean, result.trial.anchors_at_end)
            tables = {
                table: _table_of([result.trial] if table == "trials" else getattr(result, table), table)
                for table in names
            }
            tables["trials"] = with_parameters(tables["trials"])
            for table, content in tables.items():  # apply the readers' rule, or every run would do it again
                if fault := fault_of(content, content.schema, table, name.removesuffix(".parquet")):
                    raise RowsError(f"{table}: {fault}")
            self._write_attempt(name, tables)
        except (StoreError, RowsError):
            raise
        except Exception as error:  # Arrow's errors have no common base
            raise RowsError(f"{type(error).__name__}: {error}") from error

    def take_over(self, source: Path, trial_id: str, attempt: int, *, number: int) -> None:
        """Copy an attempt from the folder of another sweep; here it becomes attempt ``number``. Raise
        ``StoreError``."""
        name = f"{trial_id}-{attempt}.parquet"
        found = {table: _read_file(path, table) for table in SCHEMAS if (path := source / table / name).is_file()}
        copies = {table: _with_value(rows, "attempt", number) for table, rows in found.items()}
        copies["trials"] = _with_value(copies["trials"], "sweep", self.folder.name)
        self._write_attempt(f"{trial_id}-{number}.parquet", copies)

    def _write_attempt(self, name: str, tables: Mapping[Table, pa.Table]) -> None:
        """Write the tables of one attempt, ``trials`` last."""
        if (self.folder / "trials" / name).exists():
            raise StoreError(f"{self.folder / 'trials' / name} exists already; an attempt is never written over")
        order = [table for table in SCHEMAS if table in tables]
        try:
            for table in order:
                self._put(self.folder / table / name, _parquet_writer(tables[table]))
        except Exception:
            for table in reversed(order):  # ``trials`` first: without it the others do not count
                (self.folder / table / name).unlink(missing_ok=True)
            raise

    def write_text(self, name: Literal["sweep.yaml", "environment.json"], text: str) -> None:
        """Replace one of the two text files beside the tables."""
        self._put(self.folder / name, lambda file: file.write(text.encode()))

    def write_running(self, text: str) -> None:
        """Replace ``running.json``, which need not survive a crash of the machine."""
        self._put(self.folder / RUNNING, lambda file: file.write(text.encode()), synced=False)

    def close(self) -> None:
        """Remove ``running.json`` and release the lock."""
        with contextlib.suppress(OSError):  # another message already reports a folder that became read-only
            (self.folder / RUNNING).unlink(missing_ok=True)
        self._lock.close()

    def _put(self, target: Path, write: Callable[[IO[bytes]], object], *, synced: bool = True) -> None:
        try:
            with replacing(target, self.folder / SCRATCH, synced=synced) as new, new.open("wb") as file:
                write(file)
        except OSError as error:
            raise StoreError(f"{target} cannot be written: {error.strerror or error}") from error


def _tables(workload: str, kl_mean: float | None, anchors_at_end: int | None) -> list[Table]:
    """Return the tables in which an attempt has a file. ``kl_mean`` is known if any turn was compared with dense.
    ``anchors_at_end`` is known if its method has pools (and the version that made the attempt kept their anchors)."""
    own: tuple[str, ...] = ("fidelity",) if kl_mean is not None else ()
    own += ("anchors",) if anchors_at_end is not None else ()
    with contextlib.suppress(UnknownWorkloadError):  # a plug-in's workload that is not installed here
        own += find_workload(workload).tables
    return [table for table in SCHEMAS if table in (*_OF_EVERY_ATTEMPT, *own)]


def _lock(path: Path) -> IO[bytes]:
    """Take a lock. Raise ``BlockingIOError`` if it is held, ``StoreError`` if ``path`` is no regular file.

    Nothing is written to the file, and links are not followed, since one may lead to somebody else's file.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        file = os.fdopen(os.open(path, flags, 0o644), "rb")
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise StoreError(f"{path} is a link, a folder or a socket; allowed: a regular file") from None
        raise
    try:
        require_regular(file.fileno(), path)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException as error:
        file.close()
        if isinstance(error, OSError) and error.errno == errno.EINVAL:
            raise StoreError(f"{path} is a pipe or a device; allowed: a regular file") from None
        raise
    return file


@contextmanager
def holding(folder: Path) -> Iterator[bool]:
    """Keep writers out of a sweep's folder during the block. Yield False, and keep nobody out, if one is at work
    there."""
    try:
        lock = _lock(folder / ".lock")
    except BlockingIOError:
        yield False
        return
    except OSError:  # a folder that cannot be written has no writer
        yield True
        return
    with lock:
        yield True


def _table_of(rows: Sequence[object], table: Table) -> pa.Table:
    return pa.Table.from_pydict(columns_of(RECORDS[table], rows), schema=SCHEMAS[table])


def _with_value(table: pa.Table, column: str, value: str | int) -> pa.Table:
    """Return the table with another value in all rows of one column."""
    index = table.schema.get_field_index(column)
    field = table.schema.field(index)
    return table.set_column(index, field, pa.array([value] * len(table), field.type))


def _parquet_writer(table: pa.Table) -> Callable[[IO[bytes]], object]:
    return lambda file: pq.write_table(table, file, write_page_checksum=True)


def sweep_folders(results: Path) -> list[Path]:
    """Return the folders of all sweeps in a results folder, by name, or the folder itself if it belongs to one sweep.

    Raise ``StoreError`` if there is none.
    """
    if (results / "trials").is_dir():
        return [results]
    found = (path.parent for path in results.glob("*/trials") if path.is_dir())
    folders = sorted(found, key=lambda folder: natural(folder.name))
    if not folders:
        raise StoreError(f"{results} holds no results (no <sweep>/trials folder)")
    return folders


def read_trials(folder: Path, *, without: Collection[Path] = ()) -> pa.Table:
    """Read every attempt in the folder of one sweep, one row each; no rows if the folder does not exist.

    Files in ``without`` count as absent. Raise ``StoreError`` if any other file cannot be read.
    """
    return _read(folder, "trials", None, without)


def read_records(folder: Path, table: Table, attempts: Sequence[str]) -> pa.Table:
    """Read the rows of the named attempts (``<trial_id>-<attempt>``)."""
    return _read(folder, table, attempts)


@dataclasses.dataclass(frozen=True, slots=True)
class Attempts:
    """The attempts at one trial in a sweep's folder."""

    last: int
    """Number of the latest attempt."""
    finished: int | None
    """Number of the latest attempt that ended ``ok`` and has all its files; None if there is none."""


def read_attempts(folder: Path, *, without: Collection[Path] = ()) -> dict[str, Attempts]:
    """Read the attempts of each trial, by trial id. A trial is finished, and does not run again, if one attempt is.

    Files in ``without``, which were found damaged, count as absent.
    """
    attempts: dict[str, Attempts] = {}
    columns = ["trial_id", "attempt", "status", "workload", "kl_mean", "anchors_at_end"]
    rows = read_trials(folder, without=without).select(columns).sort_by("attempt").to_pylist()
    for row in rows:
        trial_id, attempt = row["trial_id"], row["attempt"]
        name = f"{trial_id}-{attempt}.parquet"
        files = [folder / table / name for table in _tables(row["workload"], row["kl_mean"], row["anchors_at_end"])]
        whole = all(file.is_file() and file not in without for file in files)
        earlier = attempts.get(trial_id)
        finished = attempt if row["status"] == "ok" and whole else earlier.finished if earlier else None
        attempts[trial_id] = Attempts(last=attempt, finished=finished)
    return attempts


def _read(folder: Path, table: Table, attempts: Sequence[str] | None, without: Collection[Path] = ()) -> pa.Table:
    if attempts is None:
        paths = [path for path in sorted((folder / table).glob("*.parquet")) if path not in without]
    else:
        paths = [path for name in attempts if os.path.lexists(path := folder / table / f"{name}.parquet")]
    schema = SCHEMAS[table]
    parts = [_read_file(path, table) for path in paths]
    # Files of another version may lack a column or have an extra one. Both kinds stay, with nulls where unknown.
    nullable = pa.schema([field.with_nullable(True) for field in schema])
    try:
        return pa.concat_tables([nullable.empty_table(), *parts], promote_options="permissive")
    except pa.ArrowException as error:  # a column that this version does not know, of two types
        raise StoreError(f"the files in {folder / table} do not go together: {_one_line(error)}") from None


def fault_within(path: Path, table: Table, *, without_texts: bool = False) -> str | None:
    """Read a file of ``table``, whole or without its long texts, and return its fault; None if it has none."""
    try:
        _read_file(path, table, without_texts=without_texts)
    except _FaultError as fault:
        return fault.reason
    return None


class _FaultError(StoreError):
    """A file cannot be accepted as results."""

    def __init__(self, path: Path, verdict: str, reason: str) -> None:
        super().__init__(f"{path} {verdict}: {reason}; delete it to run its trial again")
        self.reason = reason


def _read_file(path: Path, table: Table, *, without_texts: bool = False) -> pa.Table:
    try:
        with open_regular(path) as file, pq.ParquetFile(file, page_checksum_verification=True) as parquet:
            schema = parquet.schema_arrow
            rows = parquet.read(columns_to_check(schema, table) if without_texts else None)
    except (OSError, pa.ArrowException) as error:
        raise _FaultError(path, "cannot be read as Parquet", _one_line(error)) from None
    fault = fault_of(rows, schema, table, path.stem)
    if fault is not None:
        raise _FaultError(path, "is damaged", fault)
    return rows


def _one_line(error: OSError | pa.ArrowException) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return one_line(reason)[:300]
