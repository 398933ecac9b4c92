"""aime: rows of both spellings, and the verdict on integers from 0 to 999. Problems of our own."""

import json
from pathlib import Path

import pytest

from harness.workloads.aime import AimeSpec
from harness.workloads.base import Item

ROWS: list[dict[str, object]] = [
    {"id": 7, "problem": "How many days has a leap year?", "answer": "366", "solution": "Count.", "year": "2023"},
    {"id": "x", "question": "How many minutes are in 33 minutes?", "answer": "033"},
    {"problem": "Nothing?", "answer": 0},
]


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    path = tmp_path / "aime.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_items(problems: Path) -> None:
    """Catches a leading zero that makes 033 another answer than 33, and 0 taken for a missing answer."""
    items = AimeSpec(path=str(problems)).load(seed=0)
    assert [(item.item_id, item.expected) for item in items] == [
        ("aime-000", "366"),
        ("aime-001", "33"),
        ("aime-002", "0"),
    ]
    assert items[1].question == "How many minutes are in 33 minutes?"
    backwards = AimeSpec(path=str(problems), order="ascending").load(seed=0)
    assert [item.item_id for item in backwards] == ["aime-002", "aime-000", "aime-001"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"problem": "?", "answer": "1000"}, "answer is '1000'; allowed: an integer from 0 to 999"),
        ({"problem": "?", "answer": 1000}, "answer is 1000; allowed"),
        ({"problem": "?", "answer": "-1"}, "answer is '-1'; allowed"),
        ({"problem": "?", "answer": "1/2"}, "answer is '1/2'; allowed"),
        ({"problem": "?", "answer": 3.0}, "answer is 3.0; allowed"),
        ({"problem": "?", "answer": True}, "answer is True; allowed"),
        ({"problem": "?", "answer": "²"}, "answer is '²'; allowed"),
        ({"problem": "?", "answer": ""}, "answer is ''; allowed"),
        ({"problem": "?"}, "answer is None; allowed"),
        ({"answer": "1"}, "question is None; allowed: text"),
        ({"problem": " ", "question": "?", "answer": "1"}, "problem is ' '; allowed: text"),
    ],
)
def test_malformed_rows_are_named(problems: Path, row: dict[str, object], message: str) -> None:
    """Catches a reference that no answer can equal, and a bad row that is skipped."""
    with problems.open("a") as file:
        file.write(json.dumps(row) + "\n")
    with pytest.raises(ValueError, match=rf"aime\.jsonl line 4: {message}"):
        AimeSpec(path=str(problems)).load(seed=0)


# Expected 33 in all of them.
ANSWERS: list[tuple[str, str, str | None, str]] = [
    ("The answer is 33.", "correct", "33", "answer_is"),
    ("The answer is 033.", "correct", "033", "answer_is"),
    ("The answer is $33$.", "correct", "33", "answer_is"),
    ("The answer is $n = 33$.", "correct", "33", "answer_is"),
    ("The final answer is: 33", "correct", "33", "answer_is"),
    ("**Answer:** 33", "correct", "33", "answer_is"),
    ("The answer is\n33", "correct", "33", "answer_is"),
    ("The answer is:\n\n\\[ 33 \\]", "correct", "33", "answer_is"),
    ("\\boxed{33}", "correct", "33", "boxed"),
    ("\\boxed{033}", "correct", "033", "boxed"),
    ("\\boxed{\\text{33}}", "correct", "33", "boxed"),
    ("So $m+n = 30 + 3 = \\boxed{33}$.", "correct", "33", "boxed"),
    ("#### 33", "correct", "33", "hashes"),
    ("33", "correct", "33", "last_number"),
    ("33.0", "correct", "33.0", "last_number"),
    ("Adding up gives 33", "correct", "33", "last_number"),
    ("The answer is 66/2", "correct", "66/2", "answer_is"),
    ("The answer is 30 + 3 = 33", "correct", "33", "answer_is"),
    ("\\boxed{330}", "wrong", "330", "boxed"),
    ("\\boxed{3}", "wrong", "3", "boxed"),
    ("The answer is -33.", "wrong", "-33", "answer_is"),
    ("The answer is 33.5.", "wrong", "33.5", "answer_is"),
    ("The answer is 1/33.", "wrong", "1/33", "answer_is"),
    ("The answer is 1033.", "wrong", "1033", "answer_is"),
    ("The answer is 33,033", "wrong", "33,033", "answer_is"),
    ("The answer is 0", "wrong", "0", "answer_is"),
    ("33 is tempting, but the answer is 34.", "wrong", "34", "answer_is"),
    ("The answer is 33. No, the answer is 34.", "wrong", "34", "answer_is"),
    ("We get 33 in 2 ways", "wrong", "2", "last_number"),
    ("\\boxed{33}\nThe answer is 34", "wrong", "34", "answer_is"),
    ("The answer is 33 or 34.", "unparsable", None, "several_numbers_stated"),
    ("\\boxed{\\frac{33}{1}}", "unparsable", None, "several_numbers_stated"),
    ("The answer is 33, 34", "unparsable", None, "several_numbers_stated"),
    ("The answer is (33, 33, 1)", "unparsable", None, "several_numbers_stated"),
    ("\\boxed{3^3}", "wrong", "3", "boxed"),
    ("The answer is 3+30", "unparsable", None, "several_numbers_stated"),
    ("The answer is thirty-three; 33 is its sum", "correct", "33", "answer_is"),
    ("The answer is thirty-three.", "unparsable", None, "no_number_stated"),
    ("There are 33.\nThe answer is", "unparsable", None, "no_number_stated"),
    ("33 it is: \\boxed{x}", "unparsable", None, "no_number_stated"),
    ("The answer is 33-34", "unparsable", None, "not_a_number"),
    ("The answer is 3e1", "unparsable", None, "not_a_number"),
    ("The answer is 33/0", "unparsable", None, "not_a_number"),
    ("It was on the 33rd", "unparsable", None, "no_number"),
    ("1. First we add.\n2. Then", "unparsable", None, "no_number"),
    ("", "unparsable", None, "no_number"),
]


@pytest.mark.parametrize(("answer", "outcome", "extracted", "rule"), ANSWERS)
def test_hand_written_answers(answer: str, outcome: str, extracted: str | None, rule: str) -> None:
    """Each row is one mistake that a more lenient or a simpler grader would make."""
    grade = AimeSpec().grade(Item("aime-000", "?", "33"), answer)
    assert (grade.outcome, grade.extracted, grade.rule) == (outcome, extracted, rule)
