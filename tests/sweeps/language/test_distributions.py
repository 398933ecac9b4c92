"""Draws of random search: within bounds, spread as the distribution says, the same everywhere."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.language.distributions import Distribution, read_distribution

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(ends=st.tuples(NUMBERS, NUMBERS).filter(lambda ends: ends[0] != ends[1]), purpose=st.text())
def test_uniform_stays_within_its_bounds(ends, purpose):
    """Catches a draw that rounding, or an overflow of high - low, puts outside."""
    low, high = sorted(ends)
    assert low <= Distribution("uniform", [low, high]).draw(purpose) <= high


@given(ends=st.tuples(NUMBERS, NUMBERS).filter(lambda ends: 0 < ends[0] < ends[1]), purpose=st.text())
def test_log_uniform_stays_within_its_bounds(ends, purpose):
    """Catches exp(log(high)) landing above high."""
    low, high = ends
    assert low <= Distribution("log_uniform", [low, high]).draw(purpose) <= high


@given(low=st.integers(-(2**63), 2**63 - 2), size=st.integers(1, 2**63), purpose=st.text())
def test_int_stays_within_its_bounds(low, size, purpose):
    """Catches arithmetic on floats, which cannot tell 64-bit numbers apart."""
    high = min(low + size, 2**63 - 1)
    drawn = Distribution("int", [low, high]).draw(purpose)
    assert isinstance(drawn, int)
    assert low <= drawn <= high


def test_golden_draws():
    """Catches draws that change with a version of Python or of this code, so that old sweeps could not be extended."""
    drawn = [
        Distribution(kind, values).draw("0 0 kvcomm.gamma")
        for kind, values in [
            ("uniform", [0, 1]),
            ("log_uniform", [1e-4, 1]),
            ("int", [5, 40]),
            ("choice", ["a", "b", "c", "d"]),
        ]
    ]
    # By hand from the first: 1e-4 ** (1 - 0.61866), 5 + floor(0.61866 * 36), the third of four.
    assert drawn == [0.61866, 0.0298292, 27, "c"]


def test_draws_are_spread_as_the_distribution_says():
    """Catches an end that is never drawn, and a logarithmic range drawn like a plain one.

    Of 4000 draws at p = 1/4 or 1/2, six standard deviations are 165 and 190.
    """
    purposes = [f"spread {index}" for index in range(4000)]
    ints = Counter(Distribution("int", [1, 4]).draw(purpose) for purpose in purposes)
    choices = Counter(Distribution("choice", [None, True, "x", 2.5]).draw(purpose) for purpose in purposes)
    for counts in (ints, choices):
        assert len(counts) == 4
        assert all(abs(count - 1000) < 165 for count in counts.values())
    for kind, ends, middle in [("uniform", [0, 1], 0.5), ("log_uniform", [1e-4, 1], 1e-2)]:
        below = sum(Distribution(kind, ends).draw(purpose) < middle for purpose in purposes)
        assert abs(below - 2000) < 190


def test_fractions_have_six_digits_unless_the_bounds_are_closer():
    """Catches names such as gamma=0.6186604513198207, and rounding that leaves a narrow range."""
    drawn = Distribution("uniform", [0, 1]).draw("x")
    assert drawn == float(f"{drawn:.6g}")
    low = 0.1234567
    high = math.nextafter(low, 1)
    assert low <= Distribution("uniform", [low, high]).draw("x") <= high


@pytest.mark.parametrize("value", [{"int": [2, 3]}, {"uniform": [0, 0.5]}, {"choice": [1]}, {"log_uniform": [1, 2]}])
def test_read(value):
    """Catches a distribution that is refused, or read as another."""
    [(kind, values)] = value.items()
    assert read_distribution("f", value) == Distribution(kind, values)
