"""The text of ``kvcomm status``."""

from datetime import UTC, datetime

from rich.console import Console

from analysis.tables.rendering import row_table
from sweeps.status.progress import last_line
from sweeps.status.sweep_status import SweepStatus
from sweeps.wording import say


def print_statuses(statuses: list[SweepStatus], console: Console) -> None:
    """Print a line per sweep, then each sweep's running trials, failures and damaged files."""
    rows = [
        [one.sweep, *map(str, (one.n_trials, one.n_ok, one.n_failed, one.n_left)), _ended(one), _state(one)]
        for one in statuses
    ]
    head = ("sweep", "trials", "ok", "failed", "left", "last ended, UTC", "state")
    console.print(row_table(head, rows, left=("sweep",)), highlight=False)
    say(console, *(line for one in statuses for line in _details(one)))


def _ended(one: SweepStatus) -> str:
    return f"{one.last_ended_at.astimezone(UTC):%Y-%m-%d %H:%M}" if one.last_ended_at else "-"


def _state(one: SweepStatus) -> str:
    if one.controller_gone:
        return "its controller is gone"
    return "running" if one.running else "done" if one.n_ok == one.n_trials else "not running"


def _details(one: SweepStatus) -> list[str]:
    lines = []
    if one.running and one.controller_gone:
        last = one.running.updated_at.isoformat(" ", "seconds")
        lines.append(
            f"{one.sweep}: process {one.running.pid} on {one.running.host} ended without a word after {last}; "
            f"run the sweep again to go on"
        )
    elif one.running:
        age = (datetime.now(UTC) - one.running.updated_at).total_seconds()
        counts, *others = one.running.lines()
        failures = [f"failed: {failure}" for failure in one.running.last_failures]
        lines += [f"{one.sweep}: {line}" for line in (f"{counts}, as of {age:.0f} s ago", *others, *failures)]
    for failure in one.failures:
        reason = last_line(failure.error)
        lines.append(f"{one.sweep} {failure.trial_id} {failure.status}, attempt {failure.attempt}: {reason}")
    for file in one.damaged:
        lines.append(f"{one.sweep}: {file.path} is damaged and not counted: {file.reason}; the next run sets it aside")
    if one.set_aside:
        where = one.set_aside[0].parent.parent
        names = ", ".join(str(path.relative_to(where)) for path in one.set_aside)
        lines.append(f"{one.sweep}: damaged files set aside in {where}: {names}")
    return lines
