"""Detection of damaged files in a results folder: torn files, and files whose content does not match their name.

They move to ``RESULTS/<sweep>/damaged/<table>/<file>``. Nothing is deleted, no reader stumbles over them, and their
trials run again: one, or all those in a file of several attempts. The check reads every footer and all columns but long
texts. It finds a file that was cut off, overwritten, copied under a wrong name or written by another program, and one
with values that no trial can have measured (``table_faults.py``). Damage to pages of texts shows only when they are
read.
"""

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.results.arrow_schemas import SCHEMAS, Table
from harness.results.parquet_files import FaultError, StoreError, fault_within
from harness.results.waiting_files import ENDING, WAITING, read_waiting
from kvcomm_core.files.atomic_write import move_aside

DAMAGED = "damaged"
"""Folder in a sweep's folder for what was set aside."""


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A file in the folder of a table, and why it does not belong there."""

    path: Path
    reason: str


def find_damaged(folder: Path) -> list[DamagedFile]:
    """Find the damaged files in the folder of one sweep, and move nothing. Hidden files, which readers ignore, are
    left alone."""
    found: list[DamagedFile] = []
    with ThreadPoolExecutor(os.cpu_count()) as threads:  # reading Parquet leaves Python's lock
        for name in (WAITING, *SCHEMAS):  # the waiting first: one that moves meanwhile is in a table afterwards
            paths = [path for path in sorted((folder / name).glob("*")) if not path.name.startswith((".", "_"))]
            reasons = threads.map(functools.partial(_fault, folder=name), paths)
            found += [DamagedFile(path, reason) for path, reason in zip(paths, reasons, strict=True) if reason]
    return found


def set_aside(folder: Path, damaged: DamagedFile) -> Path:
    """Move a file to where no reader looks, and return its new place. Raise ``StoreError``.

    A file of ``trials`` takes those of its name in other tables along, as their attempts run again under the same
    numbers.
    """
    path = damaged.path
    if path.parent.name == "trials" and path.suffix == ".parquet":
        for table in SCHEMAS:
            other = folder / table / path.name
            if table != "trials" and other.exists():
                _move(folder, other)
    return _move(folder, path)


def set_lone_aside(folder: Path, stem: str) -> None:
    """Move the files of attempts that are not in ``trials``: their writer was killed. Raise ``StoreError``."""
    for table in SCHEMAS:
        path = folder / table / f"{stem}.parquet"
        if path.exists():
            _move(folder, path)


def _move(folder: Path, path: Path) -> Path:
    target = folder / DAMAGED / path.parent.name / path.name
    try:
        return move_aside(path, target)
    except OSError as error:
        raise StoreError(f"{path} is damaged and cannot be moved to {target}: {error.strerror}") from None


def files_set_aside(folder: Path) -> list[Path]:
    """Return the files that earlier runs of one sweep set aside."""
    return sorted((folder / DAMAGED).glob("*/*"))


def _fault(path: Path, folder: Table | Literal["waiting"]) -> str | None:
    """Return the fault of a file in the folder of a table, or of waiting attempts; None if it has none."""
    if folder == WAITING:
        return _fault_of_waiting(path)
    if path.suffix != ".parquet" or not path.is_file():
        return "no Parquet file"
    return fault_within(path, folder, without_texts=True)


def _fault_of_waiting(path: Path) -> str | None:
    if path.suffix != ENDING:
        return "no waiting attempt"
    try:
        read_waiting(path)
    except FileNotFoundError:  # it entered the tables a moment ago
        return None
    except FaultError as fault:
        return fault.reason
    return None
