"""Detection of damaged files in a results folder: torn files, and files whose content does not match their name.

They move to ``RESULTS/<sweep>/damaged/<table>/<file>``. Nothing is deleted, no reader stumbles over them, and their
trial runs again. The check reads every footer and all columns but long texts. It finds a file that was cut off,
overwritten, copied under a wrong name or written by another program, and one with values that no trial can have
measured (``table_faults.py``). Damage to pages of texts shows only when they are read.
"""

from dataclasses import dataclass
from pathlib import Path

from harness.results.arrow_schemas import SCHEMAS, Table
from harness.results.parquet_files import StoreError, fault_within
from kvcomm_core.files.atomic_write import move_aside

_FOLDER = "damaged"


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A file in the folder of a table, and why it does not belong there."""

    path: Path
    reason: str


def find_damaged(folder: Path) -> list[DamagedFile]:
    """Find the damaged files in the folder of one sweep, and move nothing. Hidden files, which readers ignore, are
    left alone."""
    found = []
    for table in SCHEMAS:
        for path in sorted((folder / table).glob("*")):
            if not path.name.startswith((".", "_")) and (reason := _fault(path, table)):
                found.append(DamagedFile(path, reason))
    return found


def set_aside(folder: Path, damaged: DamagedFile) -> Path:
    """Move a file to where no reader looks, and return its new place. Raise ``StoreError``."""
    target = folder / _FOLDER / damaged.path.parent.name / damaged.path.name
    try:
        return move_aside(damaged.path, target)
    except OSError as error:
        raise StoreError(f"{damaged.path} is damaged and cannot be moved to {target}: {error.strerror}") from None


def files_set_aside(folder: Path) -> list[Path]:
    """Return the files that earlier runs of one sweep set aside."""
    return sorted((folder / _FOLDER).glob("*/*"))


def _fault(path: Path, table: Table) -> str | None:
    """Return the fault of a file of ``table``; None if it has none."""
    if path.suffix != ".parquet" or not path.is_file():
        return "no Parquet file"
    return fault_within(path, table, without_texts=True)
