"""How many items the arms of a sweep need to show that they keep what dense does: ``kvcomm plan SWEEP --margin 2``.

The spread comes from pilot trials in the results: those that differ from a trial of the sweep only in the seed, the
number of items, and the share of turns that is checked. ``analysis/power.py`` derives the formula.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import variance

from rich.table import Table

from analysis.arms import Arm, Arms
from analysis.claims.claim_cells import matches, with_defaults
from analysis.compare import changes
from analysis.measures import graded_pairs
from analysis.paired_answers import PairedAnswers
from analysis.power import items_needed
from analysis.results import Results, flat_specs
from analysis.stats import proportion
from analysis.tables.rendering import decimal, percent, row_table
from harness.cells import Cell, FlatSpec, flatten, name_cells
from harness.results.rates import is_correct
from harness.spec import TrialSpec

_OPEN = ("seed", "fidelity", "workload.limit")
"""Fields in which a pilot may differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeededItems:
    """One arm of the sweep. A field is None where no pilot tells, or its margin was not given."""

    cell: str
    pilot_items: int
    """Items that the pilot and dense both answered."""
    discordance: float | None
    """The share of them on which one arm alone is right."""
    items: int | None
    """Items that exclude a loss of the margin if there is none."""
    items_low: int | None
    """The same at the ends of the discordance's 95 % interval: a small pilot knows it badly."""
    items_high: int | None
    kl_beside: str | None
    """The arm whose KL is compared: the first of the sweep that reuses in the same situation."""
    kl_pilot_items: int
    """Items with turns that were checked in both."""
    kl_variance: float | None
    """Variance of an item's difference in mean KL of the next token, in squared nats."""
    kl_items: int | None
    """Items that exclude a difference in KL of its margin if there is none."""


def needed_items(
    trials: Sequence[TrialSpec], folder: Path, *, margin: float | None, kl_margin: float | None, power: float
) -> list[NeededItems]:
    """Return a row for each arm with graded answers that is not dense.

    ``margin`` is in points of accuracy, ``kl_margin`` in nats. Raises ``StoreError`` if results cannot be read.
    """
    specs = [_fixed(flatten(trial.to_dict())) for trial in trials]
    cells = dict(zip(name_cells(specs), specs, strict=True))
    arms = _pilots(folder, cells)
    rows: dict[Cell, NeededItems] = {}
    first: dict[str, Cell] = {}
    for trial, cell in zip(trials, name_cells(specs), strict=True):
        if not trial.workload.graded or trial.method == "dense" or cell in rows:
            continue
        arm, beside = arms.get(cell), first.setdefault(cell.situation, cell)
        pairs = None if arm is None else _answers(arm)
        differences = [] if arm is None or beside == cell else _kl_differences(arm, arms.get(beside))
        spread = variance(differences) if len(differences) > 1 else None
        low, here, high = (None, None, None) if pairs is None or margin is None else _items(pairs, margin, power)
        rows[cell] = NeededItems(
            cell=str(cell),
            pilot_items=0 if pairs is None else pairs.n,
            discordance=None if pairs is None else pairs.discordance,
            items=here,
            items_low=low,
            items_high=high,
            kl_beside=None if beside == cell else beside.method,
            kl_pilot_items=len(differences),
            kl_variance=spread,
            kl_items=None if spread is None or kl_margin is None else items_needed(spread, kl_margin, power=power),
        )
    return list(rows.values())


def render_needed(rows: Sequence[NeededItems]) -> Table:
    """Render the rows as a terminal table; unknown values are dashes."""
    lines = [
        (
            row.cell,
            str(row.pilot_items) if row.pilot_items else "-",
            percent(row.discordance),
            "-" if row.items is None else f"{row.items:,}",
            "-" if row.items_low is None else f"{row.items_low:,} to {row.items_high:,}",
            row.kl_beside or "-",
            str(row.kl_pilot_items) if row.kl_pilot_items else "-",
            decimal(row.kl_variance, 5),
            "-" if row.kl_items is None else f"{row.kl_items:,}",
        )
        for row in rows
    ]
    head = (
        *("cell", "pilot\nitems", "right in\none arm", "items\nneeded", "95 %\ninterval"),
        *("KL beside", "pilot\nitems ", "variance\nof KL", "items\nneeded "),
    )
    return row_table(head, lines, left=("cell", "KL beside"))


def _pilots(folder: Path, cells: Mapping[Cell, FlatSpec]) -> dict[Cell, Arm]:
    """Return the arm of all pilot trials of each cell that has any."""
    if not folder.exists():
        return {}
    results = Results(folder).each_trial_once()
    arms, tried = Arms(results), flat_specs(results.ok_trials)
    found = {}
    for cell, spec in cells.items():
        ids = [trial_id for trial_id, pilot in tried.items() if matches(with_defaults(pilot), spec)]
        if ids:
            found[cell] = arms.of(ids)
    return found


def _fixed(spec: FlatSpec) -> FlatSpec:
    return {key: value for key, value in spec.items() if key not in _OPEN}


def _answers(arm: Arm) -> PairedAnswers | None:
    """Count who answered each item correctly; of an item with several seeds, the first counts."""
    pairs = graded_pairs(arm.paired_samples(), "_dense").drop_duplicates("item")
    if pairs.empty:
        return None
    return PairedAnswers.of(pairs["outcome"].map(is_correct).tolist(), pairs["outcome_dense"].map(is_correct).tolist())


def _items(pairs: PairedAnswers, margin: float, power: float) -> tuple[int, int, int]:
    """Return the items at the low end of the discordance's interval, at the discordance itself, and at the high end."""
    found = proportion(pairs.only_ours + pairs.only_theirs, pairs.n)
    assert found.low is not None and found.high is not None  # noqa: S101, PT018 - Wilson's always has both
    # The test takes a variance above 0 even if no item disagrees.
    least = PairedAnswers(0, 0, pairs.n).planned_variance(-margin / 100)
    low, here, high = (
        items_needed(max(share, least), margin / 100, power=power) for share in (found.low, found.value, found.high)
    )
    return low, here, high


def _kl_differences(arm: Arm, beside: Arm | None) -> list[float]:
    """Return each item's difference in mean KL over the turns that were checked in both arms."""
    if beside is None:
        return []
    turns = changes.known_in_both(changes.same_turns(beside, arm, "pair"), ["kl_next_token"])
    means = (turns["kl_next_token"] - turns["kl_next_token_a"]).astype(float).groupby(turns["item"]).mean()
    return [float(one) for one in means]
