"""One row per arm: its distance from dense, what it computes, how long it takes, and what it needs to begin.

Arms are compared within a *situation*, the same workload, agents and settings. Two kinds of arms are no competitors:

- *exact* ones, ``dense`` and ``prefix``, whose distance is 0 by construction: ``prefix`` is what any server's cache
  computes, so that a method has to compute less;
- *bounds*, which decide by what no method can know: the method ``oracle``, and any other with a parameter that is
  ``oracle`` or begins with ``oracle:``. They show what could be reached.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from analysis import judging, stats
from analysis.arena.errors import Measure, turn_errors
from analysis.arms import Arm, Arms, reusing
from analysis.kinds import are_graded
from analysis.results import Results
from analysis.stats import Estimate
from analysis.tables.fidelity_table import computed_rate, conversation_ttft
from harness.cells import Cell, flatten
from harness.methods import parameters_key

Kind = Literal["method", "bound", "exact"]

EXACT = ("dense", "prefix")
BOUND = "oracle"


@dataclass(frozen=True, slots=True)
class Entry:
    """An arm with its name."""

    cell: Cell
    kind: Kind
    arm: Arm

    @property
    def label(self) -> str:
        """The name of the arm, which says whether it is a bound."""
        return f"{self.cell.method} (bound)" if self.kind == "bound" else self.cell.method


@dataclass(frozen=True, slots=True, kw_only=True)
class ArenaRow:
    """One arm in one situation; shares are from 0 to 1. A field is None if there are no data for it."""

    situation: str
    arm: str
    kind: Kind
    n_items: int
    n_turns: int
    kl_next_token: Estimate | None
    """KL(dense || method) of the answer's first token, in nats, mean over all turns; 0 where the method computed the
    turn densely. Like the next two fields, see ``errors.py``."""
    kl_continuation: Estimate | None
    """The same, averaged over the first 32 tokens of dense's answer."""
    greedy_agreement: Estimate | None
    """Share of positions at which the two greedy answers have the same token."""
    judge_consistency: Estimate | None
    """Share of items on which dense's judge picks the same candidate: in this situation, or if it has no judge, in all
    that have one."""
    judge_kappa: Estimate | None
    """Cohen's kappa of the same picks."""
    judge_balanced: Estimate | None
    """The same consistency, without dense's preference for letters."""
    ttft_s: Estimate | None
    """Median TTFT of a turn."""
    conversation_ttft_s: Estimate | None
    """TTFT summed over the turns of an item, mean over items."""
    computed_share: Estimate | None
    """Tokens computed over prompt tokens, over all turns."""
    kl_last_turn: Estimate | None
    """``kl_next_token`` of the turn that ends an item's conversation. A method may do well early, where there is little
    to reuse, and badly at the agent who decides."""
    computed_share_last_turn: Estimate | None
    """``computed_share`` of those turns."""
    reuse_share: float | None
    """Share of turns that reused anything; see ``arms.reusing``."""
    pool_bytes: int | None
    """Peak size of all pools, the largest of the trials; None for methods without pools."""
    warm_up_samples: float | None
    """Samples before the first one of which every turn reuses, mean over trials. It counts from the start of
    the trial, also where earlier samples are left out. None if a trial has no such sample, as of ``dense``."""
    on_front: bool
    """Whether no other arm, bounds aside, has less KL of the first token for as few computed tokens."""


def entries_of(results: Results) -> dict[str, list[Entry]]:
    """Return the graded arms of a results folder by situation. A trial that several sweeps ran counts once."""
    once = results.each_trial_once()
    found: dict[str, list[Entry]] = {}
    for cell, arm in Arms(once).by_cell(once.trials[are_graded(once.trials)]).items():
        if len(arm.turns):
            found.setdefault(cell.situation, []).append(Entry(cell, kind_of_arm(arm), arm))
    return found


def kind_of_arm(arm: Arm) -> Kind:
    """Return the kind of an arm, by the specs of its trials."""
    spec = flatten(json.loads(arm.trials["spec_json"].iloc[0]))
    method = str(spec["method"])
    own = f"{parameters_key(method)}."
    values = (str(value).partition(":")[0] for key, value in spec.items() if key.startswith(own))
    if BOUND in (method, *values):
        return "bound"
    return "exact" if method in EXACT else "method"


def arena_rows(situations: Mapping[str, Sequence[Entry]], beginnings: pd.DataFrame) -> list[ArenaRow]:
    """Return the rows of all situations, each by rising computed tokens. ``beginnings`` holds the trials' turns from
    their first sample on, also where the arms lack the samples that filled the pools."""
    everywhere = _picks_by_method(situations.values())
    rows = []
    for situation, entries in situations.items():
        own = [_row(situation, entry, beginnings, everywhere) for entry in entries]
        front = set(front_of(own))
        own = [replace(row, on_front=index in front) for index, row in enumerate(own)]
        rows += sorted(own, key=_computed)
    return rows


def front_of(rows: Sequence[ArenaRow]) -> list[int]:
    """Return the indices of the competing rows that no other one beats, by rising computed tokens. Exact rows beat, and
    are not returned: who computes as much as an exact prefix cache should be exact."""
    points = [
        (row.computed_share.value, row.kl_next_token.value, index)
        for index, row in enumerate(rows)
        if row.kind != "bound" and row.computed_share is not None and row.kl_next_token is not None
    ]
    front: list[int] = []
    least = float("inf")
    for _, kl, index in sorted(points):
        if kl < least:
            least = kl
            front += [index] if rows[index].kind == "method" else []
    return front


def _computed(row: ArenaRow) -> float:
    return float("inf") if row.computed_share is None else row.computed_share.value


def _row(situation: str, entry: Entry, beginnings: pd.DataFrame, everywhere: Mapping[str, pd.DataFrame]) -> ArenaRow:
    arm, turns = entry.arm, entry.arm.turns
    last = last_turns(turns)
    picks = judging.decisions(arm)
    if picks.empty:
        picks = everywhere.get(entry.cell.method, picks)
    sizes = arm.trials["pool_bytes_max"].dropna()
    return ArenaRow(
        situation=situation,
        arm=entry.label,
        kind=entry.kind,
        n_items=turns["item"].nunique(),
        n_turns=len(turns),
        kl_next_token=_mean(entry, "kl_next_token"),
        kl_continuation=_mean(entry, "kl_continuation"),
        greedy_agreement=_mean(entry, "greedy_agreement"),
        judge_consistency=judging.consistency(picks),
        judge_kappa=judging.kappa(picks),
        judge_balanced=judging.consistency(picks, "balanced"),
        ttft_s=stats.median(turns["ttft_s"], turns["item"]),
        conversation_ttft_s=conversation_ttft(arm),
        computed_share=computed_rate(turns),
        kl_last_turn=_mean(entry, "kl_next_token", last),
        computed_share_last_turn=computed_rate(turns[last]),
        reuse_share=float(reusing(turns).mean()),
        pool_bytes=None if sizes.empty else int(sizes.max()),
        warm_up_samples=warm_up(beginnings[beginnings["trial_id"].isin(arm.trials["trial_id"])], arm),
        on_front=False,
    )


def last_turns(turns: pd.DataFrame) -> "pd.Series[bool]":
    """Return which turns end the conversation of their item."""
    order = turns["round"] * (turns["agent_index"].max() + 1) + turns["agent_index"]
    is_last: pd.Series[bool] = order == order.groupby([turns["trial_id"], turns["sample_index"]]).transform("max")
    return is_last


def _mean(entry: Entry, measure: Measure, of: "pd.Series[bool] | None" = None) -> Estimate | None:
    if entry.cell.method.split()[0] == "dense":
        return None  # it is what the others are compared with
    errors = turn_errors(entry.arm, measure, of)
    return None if errors.empty else stats.mean(errors, errors.index.get_level_values("item").astype(str))


def warm_up(turns: pd.DataFrame, arm: Arm) -> float | None:
    """Return the mean over trials of the index of the first sample in which every turn reuses; see ``ArenaRow``."""
    reuses = reusing(turns).groupby([turns["trial_id"], turns["sample_index"]]).all()
    first = reuses[reuses].reset_index().groupby("trial_id")["sample_index"].min()
    ok = arm.trials.loc[arm.trials["status"] == "ok", "trial_id"]
    return float(first.mean()) if len(ok) and set(ok) <= set(first.index) else None


def _picks_by_method(situations: Iterable[Sequence[Entry]]) -> dict[str, pd.DataFrame]:
    """Return the judges' decisions of all situations together, by the name of the arm."""
    found: dict[str, list[pd.DataFrame]] = {}
    for entry in (entry for entries in situations for entry in entries):
        picks = judging.decisions(entry.arm)
        if not picks.empty:
            found.setdefault(entry.cell.method, []).append(picks)
    return {method: pd.concat(frames, ignore_index=True) for method, frames in found.items()}
