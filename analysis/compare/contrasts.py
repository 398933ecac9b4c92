"""Compare the arms of one sweep with one of them: the effect of a parameter on the same items and turns.

KL to dense is compared over the turns that were reused and checked in both arms. Such turns share question, round and
agent, but each arm reads its own answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group

from analysis import measures
from analysis.arms import Arm
from analysis.compare import changes
from analysis.results import Results
from analysis.stats import Estimate
from analysis.tables.rendering import column_table, count_of, interval_of, value_of
from analysis.tables.shown import Shown, Tables
from analysis.tables.sweep_table import graded_arms


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """One arm compared with the baseline. A field is None if there are no data for it. The baseline has no changes."""

    cell: str
    turn_reuse: Estimate | None
    """Turns that reused every segment, in percent."""
    kl: Estimate | None
    """Mean KL over the arm's checked turns, in nats."""
    kl_change: Estimate | None
    """The arm's KL minus the baseline's, over the turns checked in both."""
    accuracy: Estimate | None
    """Accuracy in percent."""
    accuracy_change: Estimate | None
    """Change on the same items, in percentage points."""


def make_contrasts(results: Results, baseline: str) -> Tables:
    """Contrast every sweep that has the arm ``baseline``, named as in tables. Raises ``ValueError`` if none has it."""
    found, names = {}, []
    for sweep in results.sweeps:
        own = results.of_sweep(sweep)
        names += [cell.method for cell in graded_arms(own)]
        rows = contrasts(own, baseline)
        if rows:
            found[sweep] = rows
    if not found:
        raise ValueError(f"{baseline!r}; allowed: {', '.join(map(repr, sorted(set(names))))}")
    tables = [Group(f"{sweep}:", render_contrasts(rows, baseline)) for sweep, rows in found.items()]
    return Tables((Shown("baseline", baseline, []), Shown("sweeps", found, tables)))


def contrasts(results: Results, baseline: str) -> list[Contrast]:
    """Contrast each reusing arm of one sweep with the arm ``baseline`` that differs only in the method and its
    parameters. Skip arms for which there is none."""
    arms = graded_arms(results)
    beside = {cell.situation: arm for cell, arm in arms.items() if cell.method == baseline}
    return [
        _contrast(str(cell), arm, beside[cell.situation])
        for cell, arm in arms.items()
        if cell.method.split()[0] != "dense" and cell.situation in beside
    ]


def _contrast(cell: str, arm: Arm, other: Arm) -> Contrast:
    kl_change = accuracy_change = None
    if arm is not other:
        turns = changes.known_in_both(changes.same_turns(other, arm, "pair"), ["kl_next_token"])
        kl_change = changes.difference(turns, "kl_next_token")
        accuracy_change = measures.accuracy_difference(changes.same_items(other, arm, "pair"), "_a")
    return Contrast(
        cell=cell,
        turn_reuse=measures.turn_reuse(arm),
        kl=measures.kl_next_token(arm),
        kl_change=kl_change,
        accuracy=measures.accuracy(arm),
        accuracy_change=accuracy_change,
    )


def render_contrasts(rows: Sequence[Contrast], baseline: str) -> Group:
    """Render a caption and one row per arm; unknown values are dashes."""
    columns = [
        ("cell", [row.cell for row in rows]),
        ("reuse\nturns %", [value_of(row.turn_reuse, 1) for row in rows]),
        ("KL", [value_of(row.kl, 3) for row in rows]),
        ("turns\nchecked", [count_of(row.kl) for row in rows]),
        ("KL\nchange", [value_of(row.kl_change, 3, "+") for row in rows]),
        ("95 %\ninterval", [interval_of(row.kl_change, 3, "+") for row in rows]),
        ("turns", [count_of(row.kl_change) for row in rows]),
        ("accuracy\n%", [value_of(row.accuracy, 1) for row in rows]),
        ("change,\npoints", [value_of(row.accuracy_change, 1, "+") for row in rows]),
        ("95 % \ninterval", [interval_of(row.accuracy_change, 1, "+") for row in rows]),
        ("items", [count_of(row.accuracy_change) for row in rows]),
    ]
    return Group(
        f"changes from {baseline}, over the turns checked and the items answered in both:",
        column_table(columns, left=("cell",)),
    )
