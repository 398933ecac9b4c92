"""The writing of a sweep's results: each attempt is on disk at once, and the tables consist of few files.

An attempt is first written to ``waiting/`` as one file (``waiting_files.py``). The waiting ones then enter the tables
together, in one file per table of many rows, which never changes. So whoever reads ``<table>/*.parquet`` sees each row
once, at any moment and after a kill: no small file is ever replaced by a larger one that repeats its rows. Waiting ends
as soon as a sixteenth of the attempts wait, so the first 32 enter alone and at once; after ten minutes; and when the
run ends. A kill leaves attempts waiting. They count, and the next writer lets them in first.
"""

import contextlib
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Literal

import pyarrow as pa

from harness.results.arrow_schemas import RECORDS, SCHEMAS, Table, columns_of
from harness.results.damaged_files import set_lone_aside
from harness.results.folder_lock import lock
from harness.results.parameter_columns import with_parameters
from harness.results.parquet_files import SCRATCH, StoreError, part_name, part_number, put, write_file
from harness.results.sweep_folder import entered_attempts, read_whole, tables_of
from harness.results.table_faults import fault_of
from harness.results.trial_result import TrialResult
from harness.results.waiting_files import WAITING, Rows, read_waiting, waiting_names, waiting_path, write_waiting
from kvcomm_core.files.atomic_write import empty_scratch

RUNNING = "running.json"
"""File in which a running sweep describes itself; the controller chooses its content."""

_SHARE = 16
"""At most one in this many of the attempts waits. 20,000 attempts then make 179 files per table."""
_MOST = 256
"""Most attempts in a file."""
_MOST_BYTES = 64 << 20
"""Bytes, uncompressed, from which waiting attempts make a file whatever their number."""
_MOST_S = 600.0
"""Seconds after which they do."""


_ATTEMPT = re.compile(r"[0-9a-f]{12}-\d+")
"""Name of the files of a single attempt."""


class RowsError(Exception):
    """The rows of an attempt do not fit a file, on any disk, and nothing of it was kept. The message says why."""


class ResultsWriter:
    """Writes the results of one sweep. Only one writer at a time may hold a sweep's folder."""

    def __init__(self, results: Path, sweep: str) -> None:
        """Create the folders, take the lock, and let attempts into the tables that a killed run left waiting.

        Raise ``StoreError`` if that fails.
        """
        self.folder = results / sweep
        self._scratch = self.folder / SCRATCH
        try:
            for table in (*SCHEMAS, WAITING):
                (self.folder / table).mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self.folder)
            empty_scratch(self._scratch)
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise StoreError(f"results folder {self.folder} cannot be written: {error.strerror}{where}") from None
        self._waiting: dict[str, int] = {}
        """Bytes of the waiting attempts by name, in the order of writing."""
        self._since_s = 0.0
        self._known: set[str] = set()
        """Names of the attempts in the tables."""
        self._next_part = 1
        self._is_writing = False
        """Whether attempts are on their way to disk or into the tables; it stays true if an exception comes."""
        try:
            self._recover()
        except BaseException:
            self._lock.close()
            raise

    def write(self, result: TrialResult) -> None:
        """Write one attempt to disk. When this returns, it survives a crash of the machine.

        Raise ``RowsError`` if its rows do not fit the tables, and ``StoreError`` if the disk does not accept them.
        """
        name = f"{result.trial.trial_id}-{result.trial.attempt}"
        try:
            names = tables_of(result.trial.workload, result.trial.kl_mean, result.trial.anchors_at_end)
            tables = {
                table: _table_of([result.trial] if table == "trials" else getattr(result, table), table)
                for table in names
            }
            tables["trials"] = with_parameters(tables["trials"])
            for table, content in tables.items():  # apply the readers' rule, or every run would do it again
                if fault := fault_of(content, content.schema, table, name):
                    raise RowsError(f"{table}: {fault}")
            self._keep(name, tables)
        except (StoreError, RowsError):
            raise
        except Exception as error:  # Arrow's errors have no common base
            raise RowsError(f"{type(error).__name__}: {error}") from error

    def take_over(self, source: Path, numbers: Mapping[str, int]) -> None:
        """Copy attempts from the folder of another sweep. Raise ``StoreError``.

        ``numbers`` maps the name of each to the number that it gets here.
        """
        for name, found in read_whole(source, list(numbers)):
            number = numbers[name]
            tables = {table: _with_value(rows, "attempt", number) for table, rows in found.items()}
            tables["trials"] = _with_value(tables["trials"], "sweep", self.folder.name)
            self._keep(f"{name.rpartition('-')[0]}-{number}", tables)

    def _keep(self, name: str, tables: Rows) -> None:
        if name in self._known:  # unless its damaged file was set aside since
            self._known = entered_attempts(self.folder)
        if name in self._known or name in self._waiting:
            raise StoreError(f"{self.folder} has attempt {name} already; an attempt is never written over")
        self._is_writing = True
        if not self._waiting and self._most() == 1:
            self._write_files(name, tables)
            self._known.add(name)
        else:
            size = write_waiting(waiting_path(self.folder, name), self._scratch, tables)
            self._since_s = self._since_s if self._waiting else time.monotonic()
            self._waiting[name] = size
        self._is_writing = False
        self.enter_if_due()

    def _most(self) -> int:
        """Return how many attempts may wait, and one more."""
        return max(1, min(_MOST, len(self._known) // _SHARE))

    def enter_if_due(self) -> None:
        """Let the waiting attempts into the tables if they are many, or have waited long. Raise ``StoreError``."""
        if self._waiting and (
            len(self._waiting) >= self._most()
            or sum(self._waiting.values()) >= _MOST_BYTES
            or time.monotonic() - self._since_s >= _MOST_S
        ):
            self.enter()

    def enter(self) -> None:
        """Let the waiting attempts into the tables. Raise ``StoreError``; they then go on waiting."""
        alike: dict[str, Rows] = {}
        schemas: dict[Table, pa.Schema] = {}
        for name in list(self._waiting):
            tables = read_waiting(waiting_path(self.folder, name))
            joined = _joined_schemas(schemas, tables)
            if joined is not None:
                alike[name], schemas = tables, joined
            else:  # its columns stay as they are, in files of its own
                self._enter(name, {name: tables})
        if alike:
            several = part_name(self._next_part, secrets.token_hex(4))
            self._enter(next(iter(alike)) if len(alike) == 1 else several, alike)

    def _enter(self, stem: str, attempts: Mapping[str, Rows]) -> None:
        joined: Rows = {}
        for table in SCHEMAS:
            if own := [tables[table] for tables in attempts.values() if table in tables]:
                joined[table] = pa.concat_tables(own, promote_options="default")
        self._is_writing = True
        self._write_files(stem, joined)
        self._next_part += part_number(stem) is not None
        self._known.update(attempts)
        self._waiting = {name: size for name, size in self._waiting.items() if name not in attempts}
        for name in attempts:
            with contextlib.suppress(OSError):  # readers know from the tables that it no longer waits
                waiting_path(self.folder, name).unlink()
        self._is_writing = False

    def _write_files(self, stem: str, tables: Rows) -> None:
        """Write the files of one name, ``trials`` last."""
        order = [table for table in SCHEMAS if table in tables]
        try:
            for table in order:
                write_file(self.folder / table / f"{stem}.parquet", self._scratch, tables[table])
        except BaseException:  # Ctrl-C, too: half an attempt would be set aside as damaged
            for table in reversed(order):  # ``trials`` first: without it the others do not count
                (self.folder / table / f"{stem}.parquet").unlink(missing_ok=True)
            raise

    def _recover(self) -> None:
        """Finish what a killed run began: see which attempts are in the tables, and let in those that wait."""
        self._waiting = {}
        stems = {table: {path.stem for path in (self.folder / table).glob("*.parquet")} for table in SCHEMAS}
        self._known = entered_attempts(self.folder)
        for name in waiting_names(self.folder):
            path = waiting_path(self.folder, name)
            if name in self._known:
                path.unlink(missing_ok=True)
                continue
            with contextlib.suppress(StoreError):  # ``find_damaged`` reports it
                self._waiting[name] = sum(rows.nbytes for rows in read_waiting(path).values())
        every = set().union(*stems.values())
        lone = every - stems["trials"]  # their attempts would have come last in ``trials``
        numbers = {stem: number for stem in every if (number := part_number(stem)) is not None}
        self._next_part = max(numbers.values(), default=0) + 1
        kept = {next(iter(self._waiting))} if len(self._waiting) == 1 else set()
        unfinished = next((stem for stem in sorted(lone) if numbers.get(stem) == self._next_part - 1), "")
        if unfinished and self._waiting:
            self._next_part -= 1  # the same name again: its files are replaced, so that no row shows twice
            kept = {unfinished}
        for stem in lone - kept:
            if part_number(stem) is not None or _ATTEMPT.fullmatch(stem):  # ``find_damaged`` reports all others
                set_lone_aside(self.folder, stem)
        if unfinished in kept:
            self._enter(unfinished, {name: read_waiting(waiting_path(self.folder, name)) for name in self._waiting})
        elif self._waiting:
            self.enter()

    def write_text(self, name: Literal["sweep.yaml", "environment.json"], text: str) -> None:
        """Replace one of the two text files beside the tables."""
        put(self.folder / name, self._scratch, lambda file: file.write(text.encode()))

    def write_running(self, text: str) -> None:
        """Replace ``running.json``, which need not survive a crash of the machine."""
        put(self.folder / RUNNING, self._scratch, lambda file: file.write(text.encode()), synced=False)

    def close(self) -> None:
        """Let the waiting attempts into the tables, remove ``running.json`` and release the lock."""
        with contextlib.suppress(StoreError):  # the next writer will, and another message reports the disk
            if self._is_writing:  # Ctrl-C came meanwhile: some may be in the tables, and would show there twice
                self._recover()
            else:
                self.enter()
        with contextlib.suppress(OSError):  # another message already reports a folder that became read-only
            (self.folder / RUNNING).unlink(missing_ok=True)
        self._lock.close()


def _locked(folder: Path) -> IO[bytes]:
    try:
        return lock(folder)
    except BlockingIOError:
        raise StoreError(f"results folder {folder} is in use by another kvcomm run") from None


def _joined_schemas(known: Mapping[Table, pa.Schema], tables: Rows) -> dict[Table, pa.Schema] | None:
    """Return the schemas of a file with these rows beside those of the ``known`` schemas.

    Columns that only some attempts have, such as the parameters of a plug-in's method, are null in the others. None if
    the rows do not go together: they were taken over from a version with other columns, or two plug-ins have a
    parameter of one name and two types.
    """
    joined = dict(known)
    for table, rows in tables.items():
        if any(name not in rows.schema.names for name in SCHEMAS[table].names):
            return None
        try:
            joined[table] = pa.unify_schemas([joined.get(table, SCHEMAS[table]), rows.schema])
        except pa.ArrowException:
            return None
        if any(joined[table].field(field.name) != field for field in SCHEMAS[table]):
            return None
    return joined


def _table_of(rows: Sequence[object], table: Table) -> pa.Table:
    return pa.Table.from_pydict(columns_of(RECORDS[table], rows), schema=SCHEMAS[table])


def _with_value(table: pa.Table, column: str, value: str | int) -> pa.Table:
    """Return the table with another value in all rows of one column."""
    index = table.schema.get_field_index(column)
    field = table.schema.field(index)
    return table.set_column(index, field, pa.array([value] * len(table), field.type))
