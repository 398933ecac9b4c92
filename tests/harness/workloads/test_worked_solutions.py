"""Wrong copies of worked solutions: where the mistake is, how it is carried on, and what is refused."""

import random
import re
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.workloads.worked_solutions import WorkedSolution

EGGS = WorkedSolution("She keeps 16 - 7 = <<16-7=9>>9 eggs.\nFor 9 eggs at 2 each she gets $<<9*2=18>>18.", "18")


def steps(text: str) -> list[tuple[str, Fraction]]:
    """Every ``arithmetic = result`` of a text: slow, and by Python's own arithmetic."""
    return [
        (a, Fraction(b.replace(",", ""))) for a, b in re.findall(r"([\d.,]+ ?[-+*/] ?[\d.,]+) ?= ?\$?([\d.,]*\d)", text)
    ]


def test_the_plain_text_has_no_annotations() -> None:
    """Catches markup that tells the candidates from answers, and a last line in another form."""
    assert EGGS.plain == "She keeps 16 - 7 = 9 eggs.\nFor 9 eggs at 2 each she gets $18.\nThe answer is 18"


def test_a_mistake_is_carried_to_the_end() -> None:
    """Catches a copy whose later steps use the right number, which a judge could find without any arithmetic."""
    copies = EGGS.wrong_copies(8, random.Random(0))
    carried = [copy for copy in copies if "= 9 eggs" not in copy]
    assert carried
    for copy in carried:
        eggs = int(re.findall(r"16 - 7 = (\d+) eggs", copy)[0])
        gets = f"For {eggs} eggs at 2 each she gets ${2 * eggs}."
        assert copy == f"She keeps 16 - 7 = {eggs} eggs.\n{gets}\nThe answer is {2 * eggs}"
    in_last_step = [copy for copy in copies if "= 9 eggs" in copy]
    assert in_last_step
    for copy in in_last_step:
        gets, answer = re.findall(r"\$(\d+)\.\nThe answer is (\d+)", copy)[0]
        assert gets == answer != "18"


@given(st.integers(2, 4000), st.integers(2, 900), st.integers(1, 99), st.integers(1, 3), st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_copies_have_one_mistake_and_different_ends(a: int, b: int, c: int, count: int, seed: int) -> None:
    """Catches a wrong candidate with the right answer, two equal candidates, a mistake in no step or in several, and
    copies that depend on more than the random numbers."""
    first, last = a * b, a * b + c
    solution = WorkedSolution(
        f"A: {a}*{b}=<<{a}*{b}={first}>>{first}\nB: {first}+{c}=<<{first}+{c}={last}>>{last}", f"{last}"
    )
    copies = solution.wrong_copies(count, random.Random(seed))
    assert copies == solution.wrong_copies(count, random.Random(seed))
    ends = [copy.rsplit(" ", 1)[1] for copy in copies]
    assert len({*ends, str(last)}) == count + 1
    for copy, end in zip(copies, ends, strict=True):
        found = steps(copy)
        assert found[-1][1] == int(end)
        wrong = [arithmetic for arithmetic, result in found if Fraction(eval(arithmetic)) != result]
        assert len(wrong) == 1


def test_without_steps_the_last_line_is_wrong() -> None:
    """Catches a crash on a solution without annotations, and a mistake in a line before the last."""
    for copy in WorkedSolution("He has 3 of 10.\nSo 7 are left.", "7").wrong_copies(3, random.Random(1)):
        left = re.fullmatch(r"He has 3 of 10\.\nSo (\d+) are left\.\nThe answer is (\d+)", copy)
        assert left
        assert left[1] == left[2] != "7"


def test_numbers_keep_their_form() -> None:
    """Catches a candidate that shows by its commas which number was changed."""
    house = WorkedSolution("It costs 80,000+50,000=$<<80000+50000=130000>>130,000", "130000")
    for copy in house.wrong_copies(3, random.Random(0)):
        assert re.search(r"=\$\d{2,3},\d{3}\nThe answer is \d+$", copy), copy


@pytest.mark.parametrize("step", ["2**9**9=3", "__import__('os')=3", "x=3", "1/0=3", "(2=3", "1" * 300 + "=3"])
def test_odd_arithmetic_is_not_followed(step: str) -> None:
    """Catches an annotation that is run as code, takes for ever or stops the trial."""
    for copy in WorkedSolution(f"A <<1+1=2>>2, B <<{step}>>3", "3").wrong_copies(3, random.Random(0)):
        assert copy.startswith("A ")
        assert "<<" not in copy


def test_a_final_number_without_neighbors_is_refused() -> None:
    """Catches too few candidates, which would shift the letters."""
    with pytest.raises(ValueError, match="final is '1/3'; allowed: a number with two decimals at most"):
        WorkedSolution("So 1/3.", "1/3").wrong_copies(2, random.Random(0))
