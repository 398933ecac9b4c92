"""What passes between a candidate and its judge."""

import json
from collections import Counter, OrderedDict, deque
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.tools.humaneval.sides import decoded, encoded

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text(st.characters(codec=None))
    | st.binary()
    | st.fractions()
    | st.decimals(allow_nan=False)
)
KEYS = st.integers() | st.text() | st.tuples(st.integers(), st.text())
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(KEYS, inner)
        | st.sets(KEYS)
        | st.frozensets(KEYS)
    ),
    max_leaves=20,
)


class Colour(IntEnum):
    RED = 1


class Point(NamedTuple):
    x: int
    y: int


class EqualsAll(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


def across(value: Any) -> Any:
    return decoded(json.loads(json.dumps(encoded(value))))


def same(a: object, b: object) -> bool:
    """Equal, of one type, and alike inside: 1, 1.0 and True are three values, and a dict has an order."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict) and isinstance(b, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b and repr(a) == repr(b) if not isinstance(a, set | frozenset) else a == b


@pytest.mark.slow
@given(VALUES)
def test_plain_data_arrive_as_they_left(value: object) -> None:
    """Catches a tuple that becomes a list, a key that becomes text, and a float or an integer that is rounded."""
    assert same(across(value), value)


def test_odd_numbers() -> None:
    """Catches numbers that JSON does not have, and integers too long to be written in decimal."""
    assert across(float("inf")) == float("inf")
    assert across(float("nan")) != across(float("nan"))
    assert str(across(-0.0)) == "-0.0"
    assert across(7**9999) == 7**9999


@pytest.mark.parametrize(
    ("value", "arrives_as"),
    [
        (Colour.RED, 1),
        (Point(1, 2), (1, 2)),
        (Counter("aab"), {"a": 2, "b": 1}),
        (OrderedDict(a=1), {"a": 1}),
        (Fraction(1, 3), Fraction(1, 3)),
        (Decimal("0.10"), Decimal("0.10")),
    ],
)
def test_subclasses_arrive_as_their_plain_type(value: object, arrives_as: object) -> None:
    """Catches a right answer in another class that no longer compares equal."""
    assert same(across(value), arrives_as)


def test_an_object_that_equals_everything() -> None:
    """Catches a comparison that the candidate's own class decides."""
    assert across(EqualsAll(1)) != 2
    assert across([EqualsAll(1)]) == [1]


@pytest.mark.parametrize("value", [object(), print, range(3), iter([1]), deque([1]), {1: 2}.keys(), int])
def test_what_is_no_plain_data_equals_nothing(value: object) -> None:
    """Catches a generator or an object that compares equal after its journey."""
    arrived = across(value)
    assert arrived != value
    assert arrived != arrived
    assert type(value).__name__ in repr(arrived)


@pytest.mark.parametrize(
    "content",
    [3, [], ["list"], ["list", 3], ["int", "x"], ["int", 3], ["eval", "1"], ["__import__", ["os"]], ["dict", [[1]]],
     ["Fraction", ["0x1", "0x0"]], ["Decimal", "x"], ["bytes", "0"], {"a": 1}, ["set", [["list", []]]]],
)  # fmt: skip
def test_what_was_not_encoded_is_refused(content: object) -> None:
    """Catches a forged message that makes the judge call something, or fail otherwise than with this error."""
    with pytest.raises(ValueError, match=r"no value that|invalid literal|fromhex|unpack"):
        decoded(content)
