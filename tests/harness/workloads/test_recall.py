"""recall: the generated stories and the verdict on an answer."""

import re
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.workloads.base import Grade, Item
from harness.workloads.questions import Order
from harness.workloads.recall import RecallSpec

GOLDEN = Item(
    "recall-8ed12648",
    "Irene was born in June. The summer had just begun, and the days were long. The sun was shining. There was snow on "
    "the roofs and on the road. Henry works as a pilot. Laura has a pet mouse."
    "\n\nQuestion: Which pet does Laura have?",
    "mouse",
    ("June", "pilot", "mouse"),
)
PETS = Item("recall-0", "?", "cat", ("cat", "goldfish", "Rome"))


@given(st.integers(0, 10**6), st.integers(2, 7), st.integers(0, 12))
@settings(max_examples=50, deadline=None)
def test_every_item_can_be_answered_from_its_story(seed: int, facts: int, asides: int) -> None:
    """Catches a reference that the story does not tell, tells of somebody else, or tells twice."""
    for item in RecallSpec(limit=5, facts=facts, asides=asides).load(seed):
        story, question = item.question.split("\n\nQuestion: ")
        assert len(item.candidates) == len(set(item.candidates)) == facts
        for candidate in item.candidates:
            assert len(re.findall(rf"\b{candidate}\b", story)) == 1
            assert candidate not in question
        [told] = [sentence for sentence in re.split(r"(?<=\.) ", story) if re.search(rf"\b{item.expected}\b", sentence)]
        assert re.search(rf"\b{told.split()[0]}\b", question)
        assert RecallSpec().grade(item, told) == Grade("correct", item.expected, "one_named")
        assert RecallSpec().grade(item, story).outcome == "unparsable"


def test_seeds_and_limits() -> None:
    """Catches items that depend on the limit, on global random state or not on the seed."""
    ten = RecallSpec(limit=10).load(seed=3)
    assert RecallSpec(limit=10).load(seed=3) == ten
    assert RecallSpec(limit=25).load(seed=3)[:10] == ten
    assert not {item.item_id for item in RecallSpec(limit=10).load(seed=4)} & {item.item_id for item in ten}


def test_order_changes_no_item() -> None:
    """Catches an order that draws other items, and one that is not kept."""
    by_order = {order: RecallSpec(limit=12, order=order).load(seed=3) for order in get_args(Order)}
    ids = {order: [item.item_id for item in items] for order, items in by_order.items()}
    assert all(sorted(found) == sorted(ids["file"]) for found in ids.values())
    lengths = [len(item.question) for item in by_order["file"]]
    assert [len(item.question) for item in by_order["ascending"]] == sorted(lengths)
    assert [len(item.question) for item in by_order["descending"]] == sorted(lengths, reverse=True)
    assert len({tuple(found) for found in ids.values()}) == 4


def test_the_first_item_is_as_recorded() -> None:
    """Golden: catches a generator that changed, after which old and new results no longer compare."""
    [item] = RecallSpec(limit=1).load(seed=0)
    assert item == GOLDEN


def test_a_thousand_items_differ_in_content_and_length() -> None:
    """Catches repeats (an exact repeat is trivially shareable) and stories of one length."""
    items = RecallSpec(limit=1000).load(seed=0)
    assert len({item.question for item in items}) == len({item.item_id for item in items}) == 1000
    words = [len(item.question.split()) for item in items]
    assert max(words) >= 1.7 * min(words)
    assert len(set(words)) >= 20
    assert len({item.expected for item in items}) >= 80


def test_more_facts_make_longer_stories() -> None:
    """Catches a parameter that does nothing."""
    few, many = (
        sum(len(item.question) for item in RecallSpec(limit=50, facts=facts, asides=0).load(seed=0)) for facts in (2, 6)
    )
    assert many > 1.8 * few


@pytest.mark.parametrize(
    ("answer", "grade"),
    [
        ("Nina has a cat.", Grade("correct", "cat", "one_named")),
        ("CAT", Grade("correct", "cat", "one_named")),
        ("A cat, a black cat.", Grade("correct", "cat", "one_named")),
        ("Nina has a goldfish.", Grade("wrong", "goldfish", "one_named")),
        ("She went to rome", Grade("wrong", "Rome", "one_named")),
        ("Nina has a cat, Oscar has a goldfish.", Grade("unparsable", None, "several_named")),
        ("Not a goldfish but a cat", Grade("unparsable", None, "several_named")),
        ("Her caterpillar sat in the category of bobcats.", Grade("unparsable", None, "none_named")),
        ("Nina has a dog.", Grade("unparsable", None, "none_named")),
        ("gold fish", Grade("unparsable", None, "none_named")),
        ("", Grade("unparsable", None, "none_named")),
    ],
)
def test_verdicts(answer: str, grade: Grade) -> None:
    """Catches matching inside words, credit for naming everything, and unparsable counted as wrong."""
    assert RecallSpec().grade(PETS, answer) == grade


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"limit": 0}, r"workload\.limit is 0; allowed: 1 to 100000"),
        ({"facts": 1}, r"workload\.facts is 1; allowed: 2 to 7"),
        ({"facts": 8}, r"workload\.facts is 8; allowed: 2 to 7"),
        ({"asides": -1}, r"workload\.asides is -1; allowed: 0 to 12"),
        ({"asides": 13}, r"workload\.asides is 13; allowed: 0 to 12"),
    ],
)
def test_bad_parameters(fields: dict[str, int], message: str) -> None:
    """Catches parameters that would fail inside the generator."""
    with pytest.raises(ValueError, match=message):
        RecallSpec(**fields)  # type: ignore[arg-type]
