"""Which number an answer ends on: hand-written answers, half of them traps."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.workloads.grading.numbers import final_number, numerals

PLAIN: list[tuple[str, str | None, str]] = [
    ("The answer is 18", "18", "answer_is"),
    ("The answer is 18.", "18", "answer_is"),
    ("She keeps 16 - 3 = 13 eggs.\nThe answer is 13", "13", "answer_is"),
    ("The final answer is: 18", "18", "answer_is"),
    ("Answer: 18", "18", "answer_is"),
    ("answer = 18", "18", "answer_is"),
    ("The answer is\n18", "18", "answer_is"),
    ("The answer is $18.", "18", "answer_is"),
    ("The answer is $18.50 per day", "18.50", "answer_is"),
    ("The answer is €70,000.", "70,000", "answer_is"),
    ("The answer is 1,450,000", "1,450,000", "answer_is"),
    ("The answer is 25%.", "25", "answer_is"),
    ("The answer is 12.0", "12.0", "answer_is"),
    ("The answer is 1/2", "1/2", "answer_is"),
    ("The answer is -10", "-10", "answer_is"),
    ("The answer is -$5", "-5", "answer_is"),
    ("The answer is $-5", "-5", "answer_is"),
    ("The answer is \u22125", "-5", "answer_is"),
    ("The answer is .5", ".5", "answer_is"),
    ("The answer is **18**.", "18", "answer_is"),
    ("The answer is \\(18\\).", "18", "answer_is"),
    ("Work.\n#### 18", "18", "hashes"),
    ("#### $1,000", "1,000", "hashes"),
    ("So we get \\boxed{42}.", "42", "boxed"),
    ("So we get \\boxed{42\\text{ apples}}.", "42", "boxed"),
    ("She sells 9 eggs for 18 dollars", "18", "last_number"),
    ("She earns 18.", "18", "last_number"),
    ("9 * 2 = $18", "18", "last_number"),
]

TRAPS: list[tuple[str, str | None, str]] = [
    # What is stated wins over what comes before and after it.
    ("The answer is 18. We checked this 2 times.", "18", "answer_is"),
    ("The answer is 5.\nNo, wait.\nThe answer is 6.", "6", "answer_is"),
    ("#### 5\nThe answer is 6", "6", "answer_is"),
    ("The answer is \\boxed{18}.", "18", "answer_is"),
    ("The answer is 6, so \\boxed{5}", None, "several_numbers_stated"),
    # Equations and repetitions.
    ("The answer is 9 * 2 = 18", "18", "answer_is"),
    ("The answer is x = 18", "18", "answer_is"),
    ("The answer is 18, that is $18.00", "18.00", "answer_is"),
    # Several numbers are not one.
    ("The answer is 12 3", None, "several_numbers_stated"),
    ("The answer is 5 or 6", None, "several_numbers_stated"),
    ("The answer is 10 to 12", None, "several_numbers_stated"),
    ("The answer is 10 - 12", None, "several_numbers_stated"),
    ("The answer is 1, 000", None, "several_numbers_stated"),
    ("The answer is 2 1/2", None, "several_numbers_stated"),
    ("The answer is 10^3", None, "several_numbers_stated"),
    # Stated, but no number: no other number may stand in for it.
    ("She has 18 eggs. The answer is unknown.", None, "no_number_stated"),
    ("She has 18 eggs. The answer is eighteen.", None, "no_number_stated"),
    ("18 eggs, so the answer is:", None, "no_number_stated"),
    # Digits that are no number.
    ("The answer is 10-12", None, "not_a_number"),
    ("The answer is 10\u201312", None, "not_a_number"),
    ("The answer is 2024-05-01", None, "not_a_number"),
    ("The answer is 12/05/2023", None, "not_a_number"),
    ("The answer is 3:30", None, "not_a_number"),
    ("The answer is 1.2.3", None, "not_a_number"),
    ("The answer is 1,2", None, "not_a_number"),
    ("The answer is 1,0000", None, "not_a_number"),
    ("The answer is 1/0", None, "not_a_number"),
    ("The answer is 1e3", None, "not_a_number"),
    ("It happened on 2024-05-01", None, "not_a_number"),
    ("She has 18 eggs and sells 10-12", None, "not_a_number"),
    # Digits that are passed over.
    ("She sells 18 eggs on the 3rd", "18", "last_number"),
    ("She takes 18 pills of vitamin B12", "18", "last_number"),
    ("18 people had COVID-19", "18", "last_number"),
    ("She has 18 eggs.\n2. Then she stops", "18", "last_number"),
    ("1. She has eggs\n2. She sells them", None, "no_number"),
    ("#### Step 1: add\nShe has 18", "18", "last_number"),
    ("1. Add 9 and 9.\n2. The answer is 18.", "18", "answer_is"),
    # Not thousands, not decimals.
    ("The numbers are 1, 000", "000", "last_number"),
    ("She counts 17, 18", "18", "last_number"),
    ("The total is 3.", "3", "last_number"),
    ("3.", "3", "last_number"),
    ("It costs 18 dollars...", "18", "last_number"),
    ("", None, "no_number"),
    ("I do not know.", None, "no_number"),
]


@pytest.mark.parametrize(("answer", "expected", "rule"), PLAIN + TRAPS)
def test_hand_written_answers(answer: str, expected: str | None, rule: str) -> None:
    """Each row is one mistake that a more lenient or a simpler reader would make."""
    found, found_rule = final_number(answer)
    assert (None if found is None else found.text, found_rule) == (expected, rule)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,000", Fraction(1000)),
        ("$1,234,567.50", Fraction(2469135, 2)),
        ("12.0", Fraction(12)),
        ("-0.25", Fraction(-1, 4)),
        ("6/4", Fraction(3, 2)),
        ("50%", Fraction(50)),
        ("5kg", Fraction(5)),
        (".5", Fraction(1, 2)),
        ("007", Fraction(7)),
    ],
)
def test_values_are_exact(text: str, value: Fraction) -> None:
    """Catches floats (0.1 + 0.2), lost signs and a percent sign that divides."""
    assert [numeral.value for numeral in numerals(text)] == [value]


@given(st.integers(-(10**12), 10**12), st.sampled_from(["", " dollars", "%", ".", " eggs.", "!"]))
def test_any_integer_in_any_dress_is_read_back(number: int, dress: str) -> None:
    """Catches grouping and sign errors at sizes nobody wrote an example for."""
    for written in (str(number), f"{number:,}", f"{number}.00", f"${number}"):
        for sentence in (f"The answer is {written}{dress}", f"She gets {written}{dress}", f"#### {written}{dress}"):
            found, _ = final_number(sentence)
            assert found is not None
            assert found.value == number
