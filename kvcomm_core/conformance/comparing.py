"""Compare turns that should be the same."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from kvcomm_core.conformance.cases import Case, distance, place_of
from kvcomm_core.conformance.finding import Finding
from kvcomm_core.method import Plan
from kvcomm_core.turn import Turn


def require_same_bits(found: Sequence[Sequence[Turn]], expected: Sequence[Sequence[Turn]], when: str) -> None:
    """Raise ``Finding`` unless the turns of all requests are the same to the last bit, accounts included."""
    for request, (turns, references) in enumerate(zip(found, expected, strict=True)):
        for index, (turn, reference) in enumerate(zip(turns, references, strict=True)):
            where = f"{place_of(request, index)}, {when}"
            if turn.plan != reference.plan:
                raise Finding(where, expected=_plan(reference.plan, turn.plan), found=_plan(turn.plan, reference.plan))
            if turn.computed != reference.computed:
                raise Finding(where, expected=str(reference.computed), found=str(turn.computed))
            if not torch.equal(turn.first_logits_V, reference.first_logits_V):
                largest = float((turn.first_logits_V - reference.first_logits_V).abs().max())
                raise Finding(where, expected="the same logits", found=f"logits that differ by up to {largest:.3g}")
            if turn.answer_ids != reference.answer_ids:
                raise Finding(where, expected=f"answer {reference.answer_ids}", found=f"{turn.answer_ids}")


def require_same(case: Case, found: Sequence[Sequence[Turn]], expected: Sequence[Sequence[Turn]], when: str) -> None:
    """Raise ``Finding`` unless the turns of all requests are the same but for rounding.

    Where rounding may decide, another plan or answer ends the comparison of its request: everything after it differs.
    """
    for request, (turns, references) in enumerate(zip(found, expected, strict=True)):
        for index, (turn, reference) in enumerate(zip(turns, references, strict=True)):
            where = f"{place_of(request, index)}, {when}"
            plan, planned = _without_scores(turn.plan), _without_scores(reference.plan)
            if plan != planned:
                if case.is_rounded:
                    break
                raise Finding(where, expected=_plan(planned, plan), found=_plan(plan, planned))
            largest = distance(turn.first_logits_V, reference.first_logits_V)
            if not largest <= case.tolerance:
                raise Finding(
                    where,
                    expected=f"the same logits, within {case.tolerance} of their standard deviation",
                    found=f"logits that are up to {largest:.2g} standard deviations apart",
                )
            if turn.answer_ids != reference.answer_ids:
                if case.is_rounded:
                    break
                raise Finding(where, expected=f"answer {reference.answer_ids}", found=f"{turn.answer_ids}")


def _without_scores(plan: Plan) -> Plan:
    """Return the plan without what rounding changes."""
    return replace(plan, entropy_ratio=None, nearest_distance=None)


def _plan(plan: Plan, other: Plan) -> str:
    """Name the fields in which a plan differs from the other."""
    names = [name for name in Plan.__dataclass_fields__ if getattr(plan, name) != getattr(other, name)]
    return "plan " + ", ".join(f"{name}={getattr(plan, name)}" for name in names)
