"""Methods at equal computed tokens: the best arm of each method within a budget.

A method may have several arms, which trade tokens for distance. Within each budget, a share of the prompt tokens, its
arm with the least KL of the first token stands for it. The choice is made on the numbers that are shown, so a method
with many arms has a slight advantage. Bounds of a method stand beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.arena.rows import ArenaRow, Kind
from analysis.stats import Estimate

BUDGETS = (0.05, 0.15, 0.30, 0.50)
"""Shares of the prompt tokens that may be computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRow:
    """The best arm of one method within one budget."""

    situation: str
    budget: float
    """Most tokens computed over prompt tokens."""
    arm: str
    kind: Kind
    kl_next_token: Estimate
    kl_continuation: Estimate | None
    judge_consistency: Estimate | None
    computed_share: Estimate


def budget_rows(rows: Sequence[ArenaRow]) -> list[BudgetRow]:
    """Return the best arm of each method, bounds included, within each budget; in a budget the best method is first."""
    found = []
    for situation in dict.fromkeys(row.situation for row in rows):
        for budget in BUDGETS:
            best: dict[tuple[str, Kind], BudgetRow] = {}
            for row in (row for row in rows if row.situation == situation and row.kind != "exact"):
                one = _within(row, budget)
                method = row.arm.split()[0], row.kind  # a bound must not stand for the method that it bounds
                if one and (method not in best or one.kl_next_token.value < best[method].kl_next_token.value):
                    best[method] = one
            found += sorted(best.values(), key=lambda one: (one.kind == "bound", one.kl_next_token.value))
    return found


def _within(row: ArenaRow, budget: float) -> BudgetRow | None:
    if row.kl_next_token is None or row.computed_share is None or row.computed_share.value > budget:
        return None
    return BudgetRow(
        situation=row.situation,
        budget=budget,
        arm=row.arm,
        kind=row.kind,
        kl_next_token=row.kl_next_token,
        kl_continuation=row.kl_continuation,
        judge_consistency=row.judge_consistency,
        computed_share=row.computed_share,
    )
