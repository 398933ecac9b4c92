"""Plans that methods from elsewhere make by what they take over."""

import pytest

from kvcomm_core.method import NoReuse, Plan
from kvcomm_core.template import Span, Template

PROMPT = Template(((1, 2), (3,), (4, 5)), ("a", "b")).fill({"a": (6, 7, 8), "b": (9,)})
"""Texts at 0..1, 5 and 7..8; holes at 2..4 and 6."""
WHY = NoReuse("cold", "b")


@pytest.mark.parametrize(
    ("spans", "why", "plan"),
    [
        ([], WHY, Plan("dense", no_reuse=WHY, pool_bytes=5)),
        ([Span(8, 9)], None, Plan("dense", pool_bytes=5)),
        ([Span(0, 2), Span(3, 9)], None, Plan("reuse", 8, 4, 3, 1, 7, pool_bytes=5)),
        ([Span(1, 6)], WHY, Plan("partial", 8, 2, 3, 3, 5, WHY, pool_bytes=5)),
    ],
)
def test_a_plan_counts_what_it_takes_over(spans: list[Span], why: NoReuse | None, plan: Plan) -> None:
    """Would catch the last token counted, which the engine runs, texts counted as placeholders, and a span that ends
    inside of a segment counted as all of it."""
    assert Plan.taking_over(PROMPT, spans, no_reuse=why, pool_bytes=5) == plan
