"""Reading the results of one sweep, wherever its attempts are: files of one or of several attempts, or waiting."""

import contextlib
import dataclasses
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from harness.natural_order import natural
from harness.results.arrow_schemas import SCHEMAS, Table
from harness.results.parquet_files import StoreError, part_number, read_file, reason_of
from harness.results.waiting_files import Rows, read_all_waiting
from harness.workloads import UnknownWorkloadError, find_workload

_OF_EVERY_ATTEMPT = ("turns", "samples", "trials")
_KEY = ("trial_id", "attempt")


def sweep_folders(results: Path) -> list[Path]:
    """Return the folders of all sweeps in a results folder, by name, or the folder itself if it belongs to one sweep.

    Raise ``StoreError`` if there is none.
    """
    try:
        if (results / "trials").is_dir():
            return [results]
        found = [path for path in results.iterdir() if (path / "trials").is_dir()] if results.is_dir() else []
    except OSError as error:
        raise StoreError(f"{error.filename} cannot be read: {error.strerror}") from None
    folders = sorted(found, key=lambda folder: natural(folder.name))
    if not folders:
        raise StoreError(f"{results} holds no results (no <sweep>/trials folder)")
    return folders


def parquet_files(directory: Path) -> list[Path]:
    """Return the files of a table by name; none without such a folder. Raise ``StoreError`` if it cannot be listed:
    ``Path.glob`` would then find none, and every trial would seem to be missing."""
    try:
        return sorted(path for path in directory.iterdir() if path.suffix == ".parquet")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StoreError(f"{directory} cannot be read: {error.strerror}") from None


def tables_of(workload: str, kl_mean: float | None, anchors_at_end: int | None) -> list[Table]:
    """Return the tables in which an attempt has a file, in the order in which they are written.

    ``kl_mean`` is known if any turn was compared with dense. ``anchors_at_end`` is known if its method has pools (and
    the version that made the attempt kept their anchors).
    """
    own: tuple[str, ...] = ("fidelity",) if kl_mean is not None else ()
    own += ("anchors",) if anchors_at_end is not None else ()
    with contextlib.suppress(UnknownWorkloadError):  # a plug-in's workload that is not installed here
        own += find_workload(workload).tables
    return [table for table in SCHEMAS if table in (*_OF_EVERY_ATTEMPT, *own)]


def names_of(rows: pa.Table) -> list[str]:
    """Return the name ``<trial_id>-<attempt>`` of each row."""
    return [f"{trial}-{number}" for trial, number in zip(*(rows[key].to_pylist() for key in _KEY), strict=True)]


def entered_attempts(folder: Path) -> set[str]:
    """Return the names of the attempts that are in the tables, not those that wait, nor those in damaged files."""
    found: set[str] = set()
    for path in parquet_files(folder / "trials"):
        with contextlib.suppress(StoreError):
            found.update(attempts_in(path))
    return found


def read_trials(folder: Path, *, without: Collection[Path] = (), columns: Sequence[str] | None = None) -> pa.Table:
    """Read every attempt in the folder of one sweep, one row each; no rows if the folder does not exist.

    ``columns`` limits what is read, and checked, to these. Files in ``without`` count as absent. Raise ``StoreError``
    if any other file cannot be read.
    """
    return joined([rows for _, rows in _trials(folder, without, columns)], folder, "trials", columns)


def read_records(
    folder: Path,
    table: Table,
    attempts: Sequence[str],
    *,
    without: Collection[Path] = (),
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Read the rows of the named attempts (``<trial_id>-<attempt>``), in their order. The rest is as in
    ``read_trials``."""
    chosen = None if columns is None else [name for name in SCHEMAS[table].names if name in {*columns, *_KEY}]
    rows = joined(_records(folder, table, attempts, without, chosen), folder, table, chosen)
    order = pc.index_in(_keys_of(rows), pa.array(attempts, pa.string()))
    if not pc.all(pc.less_equal(order[:-1], order[1:])).as_py():
        rows = rows.take(pc.sort_indices(order))  # stable: the rows of an attempt stay as they are
    return rows if columns is None else rows.select(list(columns))


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
    found = list(_trials(folder, without, columns))
    stems = [stem for stem, rows in found for _ in range(len(rows))]
    rows = joined([rows for _, rows in found], folder, "trials", columns).to_pylist()
    files = {table: _files(folder / table, without) for table in SCHEMAS} if rows else {}
    for row, stem in sorted(zip(rows, stems, strict=True), key=lambda pair: pair[0]["attempt"]):
        trial_id, attempt = row["trial_id"], row["attempt"]
        tables = tables_of(row["workload"], row["kl_mean"], row["anchors_at_end"])
        whole = stem is None or all(stem in files[table] for table in tables)
        earlier = attempts.get(trial_id)
        finished = attempt if row["status"] == "ok" and whole else earlier.finished if earlier else None
        attempts[trial_id] = Attempts(last=attempt, finished=finished)
    return attempts


def read_whole(
    folder: Path, attempts: Sequence[str], tables: Collection[Table] = tuple(SCHEMAS)
) -> Iterator[tuple[str, Rows]]:
    """Yield the named attempts with their rows in these tables, file by file, so that each file is read once.

    Attempts that are not there are left out. Raise ``StoreError``.
    """
    wanted, waiting = set(attempts), read_all_waiting(folder)
    for path in parquet_files(folder / "trials"):
        held = wanted.intersection(attempts_in(path))
        if held:
            wanted -= held
            yield from read_stem(folder, path.stem, held, tables)
    for name in sorted(wanted & waiting.keys()):
        yield name, {table: rows for table, rows in waiting[name].items() if table in tables}


def attempts_in(path: Path) -> list[str]:
    """Return the names of the attempts in a file of ``trials``. Raise ``StoreError``."""
    return [path.stem] if part_number(path.stem) is None else names_of(read_file(path, "trials", columns=_KEY))


def read_stem(
    folder: Path, stem: str, attempts: Collection[str], tables: Collection[Table]
) -> Iterator[tuple[str, Rows]]:
    """Yield attempts that are in the files of one name, with their rows in these tables, of which one is ``trials``.
    Raise ``StoreError``."""
    files = {table: folder / table / f"{stem}.parquet" for table in SCHEMAS if table in tables}
    there = {table: read_file(file, table) for table, file in files.items() if os.path.lexists(file)}
    if part_number(stem) is None:
        yield stem, there
    else:
        yield from _divided(there, attempts)


def _divided(part: Rows, attempts: Collection[str]) -> Iterator[tuple[str, Rows]]:
    """Divide the rows of a part by attempt. A part has the rows of an attempt one after another."""
    ranges: dict[Table, dict[str, tuple[int, int]]] = {}
    for table, rows in part.items():
        ends = pc.run_end_encode(_keys_of(rows).combine_chunks())
        starts = [0, *ends.run_ends.to_pylist()]
        ranges[table] = {
            name: (start, end - start)
            for name, start, end in zip(ends.values.to_pylist(), starts[:-1], starts[1:], strict=True)
        }
    for name in sorted(attempts):
        row = part["trials"].slice(*ranges["trials"][name]).select(["workload", "kl_mean", "anchors_at_end"])
        tables = tables_of(**row.to_pylist()[0])
        yield name, {table: part[table].slice(*ranges[table].get(name, (0, 0))) for table in tables if table in part}


def _files(directory: Path, without: Collection[Path]) -> set[str]:
    """Return the names, without their ending, of the files of a table."""
    if not directory.is_dir():
        return set()
    with os.scandir(directory) as entries:
        found = {entry.name for entry in entries if entry.is_file()}
    absent = {path.name for path in without if path.parent == directory}
    return {name.removesuffix(".parquet") for name in found - absent}


def _trials(
    folder: Path, without: Collection[Path], columns: Sequence[str] | None
) -> Iterator[tuple[str | None, pa.Table]]:
    """Yield the rows of ``trials``, each once, with the name of their file, or None for an attempt that waits."""
    waiting = read_all_waiting(folder, without=without)  # first: what moves meanwhile is in a file afterwards
    for path in parquet_files(folder / "trials"):
        if path not in without:
            rows = read_file(path, "trials", columns=columns)
            for name in names_of(rows) if waiting else ():
                waiting.pop(name, None)
            yield path.stem, rows
    for tables in waiting.values():
        yield None, tables["trials"] if columns is None else tables["trials"].select(list(columns))


def _records(
    folder: Path, table: Table, attempts: Sequence[str], without: Collection[Path], columns: Sequence[str] | None
) -> list[pa.Table]:
    """Return the rows of attempts, in their order."""
    waiting = read_all_waiting(folder, without=without)
    directory = folder / table
    there = {path.stem for path in parquet_files(directory)}
    alone = [name for name in attempts if name in there]
    paths = [directory / f"{name}.parquet" for name in alone]
    found = [read_file(path, table, columns=columns) for path in paths if path not in without]
    wanted = set(attempts).difference(alone)
    if not wanted:
        return found
    # The file in ``trials`` says which attempts a part holds; rows that it does not name were never finished.
    for of_trials in sorted((folder / "trials").glob("part-*.parquet")):
        if part_number(of_trials.stem) is None or of_trials in without:
            continue
        held = wanted.intersection(attempts_in(of_trials))
        path = directory / of_trials.name
        if held and os.path.lexists(path) and path not in without:
            rows = read_file(path, table, columns=columns)
            found.append(rows.filter(pc.is_in(_keys_of(rows), pa.array(sorted(held)))))
        wanted -= held
    found += [waiting[name][table] for name in sorted(wanted & waiting.keys()) if table in waiting[name]]
    return found


def _keys_of(rows: pa.Table) -> pa.ChunkedArray:
    """Return the attempt's name of each row."""
    return pc.binary_join_element_wise(rows["trial_id"], rows["attempt"].cast(pa.string()), "-")


def joined(parts: Sequence[pa.Table], folder: Path, table: Table, columns: Sequence[str] | None) -> pa.Table:
    """Return rows of several files as one table, with nulls for the columns that some lack. Raise ``StoreError``."""
    schema = SCHEMAS[table] if columns is None else pa.schema([SCHEMAS[table].field(name) for name in columns])
    # Files of another version may lack a column or have an extra one. Both kinds stay, with nulls where unknown.
    nullable = pa.schema([field.with_nullable(True) for field in schema])
    if columns is not None:
        parts = [rows.select([name for name in columns if name in rows.schema.names]) for rows in parts]
    try:
        return pa.concat_tables([nullable.empty_table(), *parts], promote_options="permissive")
    except pa.ArrowException as error:  # a column that this version does not know, of two types
        raise StoreError(f"the files in {folder / table} do not go together: {reason_of(error)}") from None
