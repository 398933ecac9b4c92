"""Plans that methods from elsewhere make by what they take over."""

from dataclasses import replace

import pytest

from kvcomm_core.method import NoReuse, Plan
from kvcomm_core.template import Span, Template

PROMPT = Template(((1, 2), (3,), (4, 5)), ("a", "b")).fill({"a": (6, 7, 8), "b": (9,)})
"""Texts at 0..1, 5 and 7..8; holes at 2..4 and 6."""
WHY = NoReuse("cold", "b")


@pytest.mark.parametrize(
    ("spans", "why", "plan", "pending"),
    [
        ([], WHY, Plan("dense", no_reuse=WHY, pool_bytes=5), None),
        ([Span(8, 9)], None, Plan("dense", pool_bytes=5), None),
        ([Span(0, 2), Span(3, 9)], None, Plan("reuse", 8, 4, 3, 0, 7, pool_bytes=5), [2]),
        ([Span(0, 9)], None, Plan("reuse", 8, 4, 4, 0, 8, pool_bytes=5), None),
        ([Span(1, 6)], WHY, Plan("partial", 8, 2, 3, 0, 5, WHY, pool_bytes=5), [0, 6, 7]),
    ],
)
def test_a_plan_counts_what_it_takes_over(
    spans: list[Span], why: NoReuse | None, plan: Plan, pending: list[int] | None
) -> None:
    """And leaves the rest to the engine. Would catch the last token counted, which the engine runs anyway, texts
    counted as placeholders, and a span that ends inside of a segment counted as all of it."""
    made = Plan.taking_over(PROMPT, spans, no_reuse=why, pool_bytes=5)
    assert replace(made, pending=None) == plan
    assert (made.pending and made.pending.positions_T.tolist()) == pending
