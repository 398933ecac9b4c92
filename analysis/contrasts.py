"""The arms of one sweep beside one of them: what changing a parameter does, on the same items and turns.

KL to dense is compared over the turns that both arms reused and that were checked in both: their question, round and
agent are the same, the answers that they read are each arm's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from analysis import changes, measures
from analysis.arms import Arm
from analysis.load import Records
from analysis.rendering import column_table, count_of, interval_of, value_of
from analysis.stats import Estimate
from analysis.tables import graded_arms


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """One arm beside the one that it is compared with. None: there is nothing to measure it by."""

    cell: str
    turn_reuse: Estimate | None
    """In percent."""
    kl: Estimate | None
    """Mean over its checked turns, in nats."""
    kl_change: Estimate | None
    """Its KL minus the other's, over the turns checked in both."""
    accuracy: Estimate | None
    """In percent."""
    accuracy_change: Estimate | None
    """In percentage points, on the same items."""


def contrasts(records: Records, baseline: str) -> list[Contrast]:
    """Of one sweep: each reusing arm that answers the same items with as many agents as an arm named ``baseline``.

    ``baseline`` is a method as tables print it, ``kvcomm gamma=0.3``. Raises ``ValueError`` if no arm has that name.
    """
    arms = graded_arms(records)
    names = list(dict.fromkeys(cell.method for cell in arms))
    if baseline not in names:
        raise ValueError(f"{baseline}; allowed: {', '.join(names)}")
    found = []
    for cell, arm in arms.items():
        if cell.method.split()[0] == "dense":
            continue
        for other_cell, other in arms.items():
            if other_cell.method == baseline and (other_cell.settings, other_cell.agents) == (
                cell.settings,
                cell.agents,
            ):
                found.append(_contrast(str(cell), arm, other))
    return found


def _contrast(cell: str, arm: Arm, other: Arm) -> Contrast:
    turns = changes.known_in_both(changes.same_turns(other, arm, "pair"), ["kl_next_token"])
    return Contrast(
        cell=cell,
        turn_reuse=measures.turn_reuse(arm),
        kl=measures.kl_next_token(arm),
        kl_change=changes.difference(turns, "kl_next_token"),
        accuracy=measures.accuracy(arm),
        accuracy_change=changes.accuracy_change(changes.same_items(other, arm, "answers")),
    )


def render_contrasts(rows: Sequence[Contrast], baseline: str) -> Table:
    """One row per arm; unknown is a dash."""
    columns = [
        ("cell", [row.cell for row in rows]),
        ("reuse\nturns %", [value_of(row.turn_reuse, 1) for row in rows]),
        ("KL", [value_of(row.kl, 3) for row in rows]),
        ("turns\nchecked", [count_of(row.kl) for row in rows]),
        (f"KL - that of\n{baseline}", [value_of(row.kl_change, 3, "+") for row in rows]),
        ("95 %\ninterval", [interval_of(row.kl_change, 3, "+") for row in rows]),
        ("turns", [count_of(row.kl_change) for row in rows]),
        ("accuracy\n%", [value_of(row.accuracy, 1) for row in rows]),
        (f"accuracy - that of\n{baseline}, points", [value_of(row.accuracy_change, 1, "+") for row in rows]),
        ("95 % \ninterval", [interval_of(row.accuracy_change, 1, "+") for row in rows]),
        ("items", [count_of(row.accuracy_change) for row in rows]),
    ]
    return column_table(columns, left=("cell",))
