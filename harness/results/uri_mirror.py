"""Results at a URI: a folder of this machine and its copy in an object store or on another file system.

The controller writes to the folder alone. Each attempt is copied to the URI when it is on disk. Before a sweep begins,
the URI's content is fetched, so that another machine continues where this one stopped. Only primary data is copied: the
Parquet files, the waiting attempts (``waiting_files.py``) and the texts of a sweep. MLflow is rebuilt from them.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow import fs

from harness.redaction import redact
from harness.results.arrow_schemas import SCHEMAS
from harness.results.damaged_files import DAMAGED, DamagedFile, set_aside
from harness.results.parquet_files import SCRATCH, StoreError
from harness.results.sweep_folder import attempts_in, entered_attempts
from harness.results.waiting_files import ENDING, WAITING, waiting_names, waiting_path
from kvcomm_core.config import one_line
from kvcomm_core.files.atomic_write import replacing

TEXTS = ("sweep.yaml", "environment.json")
"""Texts of a sweep, which each run of it rewrites. All other files never change once they are written, and only those
of waiting attempts are ever removed."""

_ALLOWED = "a path, s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or file:///FOLDER"


class Mirror:
    """A results folder and its copy at a URI, to which only one controller at a time may write."""

    def __init__(self, uri: str, folder: Path) -> None:
        """Raise ``StoreError`` if pyarrow does not know the URI's kind."""
        self.uri, self.folder = uri, folder
        try:
            base, path = fs.FileSystem.from_uri(uri)
        except (ValueError, OSError, pa.ArrowException) as error:
            reason = redact(one_line(error), uri)
            raise StoreError(f"results are at {redact(uri)}, which is none of {_ALLOWED}: {reason}") from None
        self._remote: Any = fs.SubTreeFileSystem(path, base)
        self._local: Any = fs.SubTreeFileSystem(str(folder.absolute()), fs.LocalFileSystem())

    def pull(self, sweep: str = "") -> int:
        """Fetch the files of a sweep, or of all sweeps, that the folder lacks. Return their number. Raise
        ``StoreError``."""
        with self._one_line():
            # Twice: an attempt that enters the tables between the looks is in one of them.
            there = _results(self._remote, sweep) | _results(self._remote, sweep)
            here = _results(self._local, sweep)
            missing = sorted(there - here, key=_order)
            fetched = 0
            while missing:
                name = missing.pop(0)
                try:
                    self._fetch(name)
                except FileNotFoundError:
                    if not _waits(name):
                        raise
                    # It entered the tables meanwhile: look for the files that it is in now.
                    there = {one for one in _results(self._remote, sweep) if not _waits(one)}
                    missing = sorted(there - _results(self._local, sweep), key=_order) + missing
                else:
                    fetched += 1
            self._set_rivals_aside(here - there, _results(self._local, sweep) - here)
            for folder in {self.folder / PurePosixPath(name).parts[0] for name in there}:
                if waiting := waiting_names(folder):  # some that were fetched earlier may have entered the tables
                    for name in entered_attempts(folder).intersection(waiting):
                        waiting_path(folder, name).unlink(missing_ok=True)
        return fetched

    def _set_rivals_aside(self, never_sent: set[str], fetched: set[str]) -> None:
        """Move files aside that never reached the URI, and of whose attempts another machine has made others since."""
        made = {(name.partition("/")[0], attempt) for name in fetched for attempt in self._attempts_in(name)}
        for name in sorted(never_sent) if made else ():
            sweep = name.partition("/")[0]
            if any((sweep, attempt) in made for attempt in self._attempts_in(name)):
                reason = "another machine has made attempts of the same trials since"
                set_aside(self.folder / sweep, DamagedFile(self.folder / name, reason))

    def _attempts_in(self, name: str) -> list[str]:
        """Return the attempts of which a file holds the rows of ``trials``; none for any other file."""
        if PurePosixPath(name).parts[1:2] == ("trials",):
            with suppress(StoreError):  # ``find_damaged`` reports it
                return attempts_in(self.folder / name)
        return []

    def move_aside(self, sweep: str, damaged: DamagedFile) -> None:
        """Move at the URI, too, what has been set aside here: else it would be fetched again. Raise ``StoreError``."""
        own, name = damaged.path.parent.name, damaged.path.name
        with self._one_line():
            for table in SCHEMAS if own == "trials" else (own,):
                if self._remote.get_file_info(f"{sweep}/{table}/{name}").type == fs.FileType.File:
                    self._remote.create_dir(f"{sweep}/{DAMAGED}/{table}", recursive=True)
                    self._remote.move(f"{sweep}/{table}/{name}", f"{sweep}/{DAMAGED}/{table}/{name}")

    def push(self, sweep: str) -> int:
        """Copy the files of a sweep that the URI lacks, and its texts anew. Return their number. Raise
        ``StoreError``."""
        with self._one_line():
            there = {name for name in _results(self._remote, sweep) if PurePosixPath(name).name not in TEXTS}
            missing = sorted(_results(self._local, sweep) - there, key=_order)
            for name in missing:
                self._send(name)
            if any(map(_waits, there)):
                entered = {f"{sweep}/{WAITING}/{name}{ENDING}" for name in entered_attempts(self.folder / sweep)}
                for name in sorted(there & entered):
                    self._remote.delete_file(name)
        return len(missing)

    def push_attempt(self, sweep: str, trial_id: str, attempt: int) -> None:
        """Copy the files of one attempt, the row of ``trials`` last. Raise ``StoreError``.

        An attempt that has entered the tables with others is copied with all that the URI lacks.
        """
        name = f"{trial_id}-{attempt}"
        files = [f"{sweep}/{WAITING}/{name}{ENDING}", *(f"{sweep}/{table}/{name}.parquet" for table in SCHEMAS)]
        with self._one_line():
            there = [file for file in files if (self.folder / file).is_file()]
            with suppress(FileNotFoundError):
                for file in there:
                    self._send(file)
                if there:
                    return
        self.push(sweep)

    def _fetch(self, name: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.folder / name.partition("/")[0] / SCRATCH
        with replacing(path, scratch) as new, self._remote.open_input_stream(name) as reader, new.open("wb") as file:
            shutil.copyfileobj(reader, file)

    def _send(self, name: str) -> None:
        """Copy a file under another name first, since an interrupted stream may leave half a file behind."""
        sweep, _, rest = name.partition("/")
        new = f"{sweep}/{SCRATCH}/{rest.replace('/', '-')}"
        for folder in (f"{sweep}/{SCRATCH}", str(PurePosixPath(name).parent)):
            self._remote.create_dir(folder, recursive=True)
        with (self.folder / name).open("rb") as file, self._remote.open_output_stream(new) as writer:
            shutil.copyfileobj(file, writer)
        self._remote.move(new, name)

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            reason = redact(one_line(error), self.uri)[:300]
            raise StoreError(f"results at {redact(self.uri)} cannot be read or written: {reason}") from None


def mirror_of(location: str) -> Mirror | None:
    """Return the mirror for a results URI; None if ``location`` is a path. Raise ``StoreError``.

    The folder is the same every time, so a file whose copy failed before a crash is copied later.
    """
    if "://" not in location:
        return None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvcomm" / "results"
    return Mirror(location, cache / hashlib.sha256(location.rstrip("/").encode()).hexdigest()[:16])


def _results(side: Any, sweep: str) -> set[str]:
    """List the results files on one side: ``<sweep>/<table>/<name>.parquet``, waiting attempts and texts."""
    found = side.get_file_info(fs.FileSelector(sweep, recursive=True, allow_not_found=True))
    paths = [PurePosixPath(info.path) for info in found if info.type == fs.FileType.File]
    return {
        str(path)
        for path in paths
        if (len(path.parts) == 3 and path.parts[1] in SCHEMAS and path.suffix == ".parquet")
        or _waits(str(path))
        or (len(path.parts) == 2 and path.name in TEXTS)
    }


def _waits(name: str) -> bool:
    """Return whether a file is that of a waiting attempt."""
    parts = name.split("/")
    return len(parts) == 3 and parts[1] == WAITING and name.endswith(ENDING)


def _order(name: str) -> tuple[int, str]:
    """Sort tables as they are written, so that no attempt has a row in ``trials`` before its other files are there."""
    tables = [*SCHEMAS, WAITING]
    parts = name.split("/")
    return (tables.index(parts[1]) if len(parts) == 3 else -1), name  # type: ignore[arg-type]
