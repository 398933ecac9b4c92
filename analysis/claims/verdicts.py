"""A verdict on each claim of a ledger: reproduced, contradicted or undecided, and then what would decide it.

A claim is decided at 5 % after Holm's correction over all claims that results could test, so the chance that the page
holds any wrong decision is at most 5 %. A claim with fewer items than its ledger asks for is not decided, and does not
count in the correction. Verdicts are about the model, task and settings in their row, and about no other.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from analysis.claims.claim_cells import ClaimCells, Observed
from analysis.claims.hypotheses import Tested, examine, holm
from analysis.claims.ledger import Claim, Ledger
from analysis.claims.quantities import QUANTITIES
from analysis.devices import devices_of
from analysis.paper.printed_numbers import load_paper
from analysis.results import Results

LEVEL = 0.05
"""Two-sided, over all claims together."""

POWER = 0.8
"""The chance with which what is said to decide a claim would decide it."""

Standing = Literal["reproduced", "contradicted", "undecided"]
Fixed = Literal["before", "not shown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A claim beside the results of one model and task. Fields about results are None if there are none."""

    claim: str
    says: str
    source: str
    verdict: Standing
    needs: str | None
    """The data that would decide an undecided claim."""
    measure: str
    unit: str
    test: str
    margin: float
    model: str | None = None
    task: str | None = None
    as_in_paper: bool | None = None
    """Whether model and task are the paper's and, for times, the GPU. If not, the verdict says nothing about these."""
    settings: str | None = None
    n: int | None = None
    """Items, or repeats of a timing, of the smallest cell."""
    effect: float | None = None
    low: float | None = None
    """95 % interval of the effect, for this claim alone."""
    high: float | None = None
    p_value: float | None = None
    """Two-sided, for this claim alone."""
    p_adjusted: float | None = None
    """After Holm's correction; None if the claim has too few items to be tested."""
    ledger: Fixed | None = None
    """``before`` if every trial records the hash of this ledger: it was fixed when they began."""
    commits: tuple[str, ...] = ()
    """Commits of the code that ran the trials."""
    devices: tuple[str, ...] = ()
    """Kinds of device that they ran on."""
    trial_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    claim: Claim
    observed: Observed
    tested: Tested


def judge(results: Results, ledger: Ledger) -> list[Verdict]:
    """Return the verdicts in the ledger's order: one for each model and task that ran a claim's cells, or one without
    results."""
    results = results.each_trial_once()
    cells = ClaimCells(results)
    rows: list[_Found | Claim] = []
    for claim in ledger.claims:
        found = [_Found(claim, one, examine(claim, one.rows)) for one in cells.observed(claim)]
        rows += found or [claim]
    counted = [row for row in rows if isinstance(row, _Found) and row.observed.n_items >= row.claim.least_n]
    adjusted = dict(zip(map(id, counted), holm([row.tested.p_value for row in counted]), strict=True))
    trials = results.trials.set_index("trial_id")
    return [
        _not_run(row) if isinstance(row, Claim) else _verdict(row, adjusted.get(id(row)), len(counted), trials, ledger)
        for row in rows
    ]


def _not_run(claim: Claim) -> Verdict:
    checked = " --set fidelity=0.25" if QUANTITIES[claim.measure].fidelity else ""
    needs = f"kvcomm run sweeps/paper/{claim.sweep}.yaml{checked}, {claim.least_n} {_counted(claim)} or more"
    return Verdict(**_named(claim), verdict="undecided", needs=needs)


def _verdict(found: _Found, adjusted: float | None, n_tested: int, trials: pd.DataFrame, ledger: Ledger) -> Verdict:
    claim, observed, tested = found.claim, found.observed, found.tested
    verdict: Standing = "undecided"
    if adjusted is not None and adjusted <= LEVEL:
        verdict = "reproduced" if tested.p_for < tested.p_against else "contradicted"
    own = trials.loc[trials.index.isin(observed.trial_ids)]
    devices = tuple(sorted(set(devices_of(own))))
    hashes = {json.loads(text).get("claims_sha256") for text in own["env_json"]}
    return Verdict(
        **_named(claim),
        verdict=verdict,
        needs=_needs(found, max(n_tested, 1)) if verdict == "undecided" else None,
        model=observed.model,
        task=observed.task,
        as_in_paper=_as_in_paper(claim, observed, devices),
        settings=observed.settings,
        n=observed.n_items,
        effect=tested.effect,
        low=_known(tested.low),
        high=_known(tested.high),
        p_value=tested.p_value,
        p_adjusted=adjusted,
        ledger="before" if hashes == {ledger.sha256} else "not shown",
        commits=tuple(sorted({str(commit) for commit in own["git_commit"].dropna()})),
        devices=devices,
        trial_ids=observed.trial_ids,
    )


def _as_in_paper(claim: Claim, observed: Observed, devices: tuple[str, ...]) -> bool:
    paper = load_paper()
    theirs = {
        (task, paper.setup.models[name])
        for table in paper.tables.values()
        for task, names in table.models.items()
        for name in names
    }
    if (observed.task, observed.model.partition("@")[0]) not in theirs or observed.task != claim.tasks[0]:
        return False
    return not QUANTITIES[claim.measure].timing or all("H100" in device for device in devices)


def _counted(claim: Claim) -> str:
    """Name what ``least_n`` counts."""
    quantity = QUANTITIES[claim.measure]
    return "repeats" if quantity.timing else "items with checked turns" if quantity.fidelity else "items"


def _named(claim: Claim) -> Mapping[str, Any]:
    return {
        "claim": claim.id,
        "says": claim.says,
        "source": claim.source,
        "measure": claim.measure,
        "unit": QUANTITIES[claim.measure].unit,
        "test": claim.test,
        "margin": claim.margin,
    }


def _known(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _needs(found: _Found, n_tested: int) -> str:
    """Say how many more items would show the claim with a chance of 80 %, at the spread observed."""
    n, counted = found.observed.n_items, _counted(found.claim)
    least = max(found.claim.least_n - n, 0)
    # Holm's first step, the hardest: what passes it is decided whatever becomes of the other claims.
    # A claim of several hurdles fails if one does: they share the chance of a failure.
    hurdles = found.tested.hurdles
    items = [hurdle.items(n, LEVEL / n_tested, 1 - (1 - POWER) / len(hurdles)) for hurdle in hurdles]
    needed = [one for one in items if one is not None]
    if len(needed) < len(items):
        return f"{least} more {counted}, then again" if least else "unknown: what is observed lies on the threshold"
    return f"{max(max(needed) - n, least, 1)} more {counted}"
