"""Files of a results folder that are torn, or are not what their name says: found, and set aside.

``RESULTS/<sweep>/damaged/<table>/<file>`` is where they go: nothing is deleted, no reader stumbles over them, and the
trial they were of is run again. A look at every footer and at the columns of identity finds a file that was cut off,
overwritten, copied under a wrong name or put there by something else; damage to single pages shows when they are read.
"""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from harness.durable import move_aside
from harness.schemas import SCHEMAS, Table
from harness.store import StoreError

_FOLDER = "damaged"


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A file in the folder of a table, and why it does not belong there."""

    path: Path
    reason: str


def find_damaged(folder: Path) -> list[DamagedFile]:
    """In the folder of one sweep; hidden files, of which readers take no notice, are left alone. Moves nothing."""
    found = []
    for table in SCHEMAS:
        for path in sorted((folder / table).glob("*")):
            if not path.name.startswith((".", "_")) and (reason := _fault(path, table)):
                found.append(DamagedFile(path, reason))
    return found


def set_aside(folder: Path, damaged: DamagedFile) -> Path:
    """Move a file to where no reader looks; where it is now. Raises ``StoreError``."""
    target = folder / _FOLDER / damaged.path.parent.name / damaged.path.name
    try:
        return move_aside(damaged.path, target)
    except OSError as error:
        raise StoreError(f"{damaged.path} is damaged and cannot be moved to {target}: {error.strerror}") from None


def files_set_aside(folder: Path) -> list[Path]:
    """Those of earlier runs of one sweep."""
    return sorted((folder / _FOLDER).glob("*/*"))


def _fault(path: Path, table: Table) -> str | None:
    """What is wrong with a file of ``table``; None if nothing is."""
    if path.suffix != ".parquet" or not path.is_file():
        return "no Parquet file"
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            required = {"trial_id", "attempt"} | ({"status", "workload"} if table == "trials" else set())
            if lacking := sorted(required - set(names)):
                return f"has no column {', '.join(lacking)}"
            rows = file.read(columns=["trial_id", "attempt"]).to_pydict()
    except (OSError, pa.ArrowException) as error:
        return " ".join(str(error).split())
    if table == "trials" and len(rows["trial_id"]) != 1:
        return f"has {len(rows['trial_id'])} rows instead of one"
    inside = {f"{trial_id}-{attempt}" for trial_id, attempt in zip(rows["trial_id"], rows["attempt"], strict=True)}
    if inside - {path.stem}:
        return f"holds rows of {min(inside - {path.stem})}"
    return None
