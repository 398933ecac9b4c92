"""Which letter an answer to a multiple-choice question gives: hand-written answers, more than half of them traps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.workloads.grading.letters import final_letter

CHOICES = {"A": "Paris", "B": "Vitamin D", "C": "They rotate about an axis.", "D": "$50"}

PLAIN: list[tuple[str, str | None, str]] = [
    ("The answer is C", "C", "answer_is"),
    ("The answer is C.", "C", "answer_is"),
    ("The answer is (C).", "C", "answer_is"),
    ("The answer is (c).", "C", "answer_is"),
    ("The answer is [B]", "B", "answer_is"),
    ("The answer is **B**.", "B", "answer_is"),
    ("**Answer:** B", "B", "answer_is"),
    ("**Answer: B**", "B", "answer_is"),
    ("answer: D", "D", "answer_is"),
    ("ANSWER = D", "D", "answer_is"),
    ("The correct answer is: D", "D", "answer_is"),
    ("The answer is option C.", "C", "answer_is"),
    ("The correct option is B.", "B", "answer_is"),
    ("The best choice is (A).", "A", "answer_is"),
    ('The answer is "C".', "C", "answer_is"),
    ("The answer is \\(C\\).", "C", "answer_is"),
    ("The answer is $C$.", "C", "answer_is"),
    ("The answer is \\text{C}.", "C", "answer_is"),
    ("We see that \\boxed{C}.", "C", "boxed"),
    ("We see that \\boxed{\\text{(C)}}.", "C", "boxed"),
    ("The answer is A) Paris.", "A", "answer_is"),
    ("The answer is (C) They rotate about an axis.", "C", "answer_is"),
    ("The answer is most likely B", "B", "answer_is"),
    ("It turns.\nC", "C", "line"),
    ("It turns.\n\n(C)\n", "C", "line"),
    ("C", "C", "line"),
    ("C.", "C", "line"),
    ("A) Paris", "A", "first"),
    ("(A) Paris, the capital", "A", "first"),
    ("A. Paris", "A", "first"),
    ("C: the axis is fixed", "C", "first"),
    ("Paris", "A", "choice_text"),
    ("they rotate about an axis", "C", "choice_text"),
]

TRAPS: list[tuple[str, str | None, str]] = [
    # A letter inside a word or as a word is no answer.
    ("A capital is a city.", None, "no_letter"),
    ("Because DNA is double stranded", None, "no_letter"),
    ("I think it could be C or so, who knows", None, "no_letter"),
    ("The answer is a city in France.", None, "no_letter_stated"),
    ("The answer is A good question.", None, "no_letter_stated"),
    ("The answer is Berlin.", None, "no_letter_stated"),
    ("The answer is Boron", None, "no_letter_stated"),
    ("The answer is C++.", None, "no_letter_stated"),
    ("The answer is A's", None, "no_letter_stated"),
    ("The answer is a", None, "no_letter_stated"),
    ("The answer is not A.", None, "no_letter_stated"),
    ("The answer is E.", None, "no_letter_stated"),
    # Names and initials.
    ("A. Smith found it in 1911.", None, "no_letter"),
    ("B. Franklin", None, "no_letter"),
    # Several letters.
    ("The answer is A or C.", None, "several_letters_stated"),
    ("The answer is A and C.", None, "several_letters_stated"),
    ("The answer is A, B, and C.", None, "several_letters_stated"),
    ("The answer is (A) or (C)", None, "several_letters_stated"),
    ("The answer is either B or C", None, "several_letters_stated"),
    ("The answer is A/C", None, "several_letters_stated"),
    ("The answer is C, not B", None, "several_letters_stated"),
    ("\\boxed{A, D}", None, "several_letters_stated"),
    ("A\nB", None, "several_letters_stated"),
    ("A) Paris\nB) Vitamin D\nC) They rotate about an axis.\nD) $50", None, "several_letters_stated"),
    ("C) They rotate.\n\nB", None, "several_letters_stated"),
    # A reason may name others.
    ("The answer is C because A and B are wrong.", "C", "answer_is"),
    ("The answer is C, since D is a sum of money.", "C", "answer_is"),
    # The last statement counts, and what is stated wins over everything else.
    ("The answer is A. Wait, the answer is B.", "B", "answer_is"),
    ("The answer is A.\nSo \\boxed{B}", "B", "boxed"),
    ("A) Paris is tempting, but the answer is C.", "C", "answer_is"),
    ("C\nThe answer is unclear.", None, "no_letter_stated"),
    ("C is right, so the final answer is", None, "no_letter_stated"),
    # Texts of choices.
    ("The answer is Paris.", "A", "stated_text"),
    ("The answer is $50.", "D", "stated_text"),
    ("The answer is (B) Vitamin D", "B", "answer_is"),
    ("The answer is C Paris.", None, "letter_and_text_differ"),
    ("The answer is B) Paris", None, "letter_and_text_differ"),
    ("C) Paris", None, "letter_and_text_differ"),
    ("It is not Paris", None, "no_letter"),
    ("Paris or Vitamin D", None, "no_letter"),
    ("Vitamin", None, "no_letter"),
    ("$5", None, "no_letter"),
    # Nothing.
    ("", None, "no_letter"),
    (" \n", None, "no_letter"),
    ("I do not know.", None, "no_letter"),
    ("The ans", None, "no_letter"),
    ("3.14", None, "no_letter"),
]


@pytest.mark.parametrize(("answer", "letter", "rule"), PLAIN + TRAPS)
def test_hand_written_answers(answer: str, letter: str | None, rule: str) -> None:
    """Each row is one mistake that a more lenient or a simpler reader would make."""
    assert final_letter(answer, CHOICES) == (letter, rule)


@pytest.mark.parametrize("answer", ["Same", "The answer is Same."])
def test_two_choices_with_the_same_text(answer: str) -> None:
    """Catches the first of two equal choices being taken."""
    assert final_letter(answer, {"A": "same", "B": "Same.", "C": "", "D": "x"})[0] is None


def test_an_empty_choice_is_never_named() -> None:
    """Catches an empty answer, or a letter without text, being taken for the text of an empty choice."""
    choices = {"A": "", "B": "x", "C": "y", "D": "z"}
    assert final_letter("", choices) == (None, "no_letter")
    assert final_letter("The answer is C.", choices) == ("C", "answer_is")


@given(st.sampled_from("ABCD"), st.sampled_from(["{}", "({})", "{}.", "**{}**", "$\\text{{{}}}$", "option {}"]))
def test_any_letter_in_any_dress_is_read_back(letter: str, dress: str) -> None:
    """Catches a rule that holds for one letter only, such as the article A."""
    for sentence in ("The answer is {}", "Work.\nAnswer: {}", "So the correct choice is {}"):
        assert final_letter(sentence.format(dress.format(letter)), CHOICES) == (letter, "answer_is")


@given(st.text(alphabet="abcdefghij ,.", max_size=60))
def test_lower_case_prose_gives_no_letter(text: str) -> None:
    """Catches 'contains the letter': prose without capitals and brackets can at most be the text of a choice."""
    assert final_letter(text, {"A": "1", "B": "2", "C": "3", "D": "4"})[0] is None
