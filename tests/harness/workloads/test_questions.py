"""The order and number of items read from a file."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.workloads.base import Item
from harness.workloads.gsm8k import Gsm8kSpec
from harness.workloads.questions import Order

FILE = Path("questions.jsonl")


def make(questions: list[str]) -> list[Item]:
    return [Item(str(index), question, "") for index, question in enumerate(questions)]


def ids(items: list[Item], order: Order, *, limit: int | None = None, seed: int = 0) -> str:
    return "".join(item.item_id for item in Gsm8kSpec(order=order, limit=limit).choose(items, seed, FILE))


def test_orders_by_length_keep_ties_in_file_order() -> None:
    """Catches ties turned around by a descending sort, and a length in words or bytes."""
    items = make(["ccc", "a", "éé", "b b", "dd"])
    assert ids(items, "file") == "01234"
    assert ids(items, "ascending") == "12403"
    assert ids(items, "descending") == "03241"


def test_the_order_does_not_choose_the_items() -> None:
    """Catches the shortest questions of the whole file being taken: the limit comes first."""
    items = make(["cccc", "bb", "ddd", "a"])
    assert ids(items, "ascending", limit=3) == "120"
    assert set(ids(items, "random", limit=3)) == set("012")


@given(st.integers(0, 2**32), st.integers(1, 12))
def test_random_is_a_permutation_by_the_seed_alone(seed: int, limit: int) -> None:
    """Catches a shuffle by global state, and items lost or repeated."""
    items = make(["x"] * 12)
    first = Gsm8kSpec(order="random", limit=limit).choose(items, seed, FILE)
    assert first == Gsm8kSpec(order="random", limit=limit).choose(items, seed, FILE)
    assert sorted(item.item_id for item in first) == sorted(item.item_id for item in items[:limit])


def test_seeds_differ() -> None:
    """Catches a shuffle that is always the same one. Golden: catches one that changed, after which results differ."""
    items = make(["x"] * 10)
    assert ids(items, "random", seed=0) == "2570968134"
    assert ids(items, "random", seed=1) == "3657048129"
    assert ids(items, "file", seed=1) == "0123456789"


@pytest.mark.parametrize("questions", [[], ["a"]])
def test_too_few_items(questions: list[str]) -> None:
    """Catches a trial over fewer items than its record says."""
    with pytest.raises(ValueError, match=rf"workload\.limit is 2; allowed: 1 to {len(questions)}, the number of items"):
        Gsm8kSpec(limit=2).choose(make(questions), 0, FILE)
