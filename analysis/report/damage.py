"""Find files of a sweep that cannot be read, and attempts that are left out because of them."""

from dataclasses import dataclass
from pathlib import Path

from harness.results.arrow_schemas import SCHEMAS
from harness.results.damaged_files import DamagedFile, files_set_aside, find_damaged
from harness.results.parquet_files import fault_within
from harness.results.sweep_folder import read_attempts, read_trials


@dataclass(frozen=True, slots=True)
class Damage:
    """Damaged and missing files of one sweep. Paths are relative to its folder."""

    damaged: tuple[DamagedFile, ...]
    """Files that were not read."""
    set_aside: tuple[Path, ...]
    """Damaged files that earlier runs moved aside."""
    incomplete: tuple[str, ...]
    """Successful attempts (``<trial_id>-<attempt>``) whose rows in another table are damaged or missing; these do not
    count."""


def find_damage(folder: Path) -> Damage:
    """Find the damage in the folder of one sweep by reading every file to its end."""
    damaged = [*find_damaged(folder)]
    known = {file.path for file in damaged}
    for table in SCHEMAS:
        for path in sorted((folder / table).glob("*.parquet")):
            if path not in known and (reason := fault_within(path, table)):
                damaged.append(DamagedFile(path, reason))
    known = {file.path for file in damaged}
    attempts = read_attempts(folder, without=known)
    incomplete = []
    columns = ["trial_id", "attempt", "status"]
    for row in read_trials(folder, without=known, columns=columns).to_pylist():
        finished = attempts[row["trial_id"]].finished
        if row["status"] == "ok" and (finished is None or row["attempt"] > finished):
            incomplete.append(f"{row['trial_id']}-{row['attempt']}")
    return Damage(
        tuple(DamagedFile(file.path.relative_to(folder), file.reason) for file in damaged),
        tuple(path.relative_to(folder) for path in files_set_aside(folder)),
        tuple(incomplete),
    )
