"""Graders by name: the rules of those that no benchmark has, and what becomes of a grader from elsewhere."""

from importlib import metadata

import pytest

from harness import extensions
from harness.agents import built_in_teams
from harness.spec import TrialSpec
from harness.workloads.base import Grade, Item
from harness.workloads.grading.graders import find_grader, grade_by, grader_version
from harness.workloads.own_questions import QuestionsSpec

MILAN = Item("i", "?", "Milan")
COLORS = Item("i", "?", "B", ("A", "B", "C"), {"A": "red", "B": "blue", "C": "green"})


@pytest.mark.parametrize(
    ("answer", "grade"),
    [
        ("milan.", Grade("correct", "milan", "whole")),
        ("**Milan**", Grade("correct", "milan", "whole")),
        ("  MILAN\n", Grade("correct", "milan", "whole")),
        ("It rained. The answer is Milan.", Grade("correct", "milan", "answer_is")),
        ("The answer is Rome. No, the answer is Milan", Grade("correct", "milan", "answer_is")),
        ("I went to Milan.", Grade("wrong", "i went to milan", "whole")),
        ("Milano", Grade("wrong", "milano", "whole")),
        ("?!", Grade("unparsable", None, "no_answer")),
        ("", Grade("unparsable", None, "no_answer")),
    ],
)
def test_exact(answer: str, grade: Grade) -> None:
    """Catches case, punctuation and white space that make a right answer wrong, and a text that only contains it."""
    assert grade_by("exact", MILAN, answer) == grade


def test_exact_takes_no_time_for_punctuation() -> None:
    """Catches a search that starts over at each of many signs, and takes hours."""
    for text in ("!" * 90_000 + "a", "a" + "! " * 45_000 + "b", "a" + "!" * 90_000):
        assert grade_by("exact", MILAN, text).outcome == "wrong"


def test_exact_keeps_signs_and_forms_of_letters_alike() -> None:
    """Catches -5 taken for 5, and a letter in another Unicode form taken for another letter."""
    assert grade_by("exact", Item("i", "?", "-5"), "5").outcome == "wrong"
    assert grade_by("exact", Item("i", "?", "50%"), "50").outcome == "wrong"
    assert grade_by("exact", Item("i", "?", "Caf\u00e9"), "cafe\u0301").outcome == "correct"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("I think it is MILAN, of course", "correct"),
        ("Milan's", "correct"),
        ("Milano", "wrong"),
        ("Rome", "wrong"),
        ("...", "unparsable"),
    ],
)
def test_contains(answer: str, outcome: str) -> None:
    """Catches part of a longer word taken for the answer."""
    assert grade_by("contains", MILAN, answer).outcome == outcome


def test_contains_takes_the_expected_text_as_it_is() -> None:
    """Catches an expected text that is read as a pattern."""
    assert grade_by("contains", Item("i", "?", "a.c"), "abc").outcome == "wrong"
    assert grade_by("contains", Item("i", "?", "C++ (2020)"), "in c++ (2020) it is").outcome == "correct"


def test_number_and_choice_are_those_of_the_benchmarks() -> None:
    """Catches a letter that is none of the item's choices, with the text of one of them."""
    assert grade_by("number", Item("i", "?", "1,000"), "The answer is 1000") == Grade("correct", "1000", "answer_is")
    assert grade_by("choice", COLORS, "The answer is B") == Grade("correct", "B", "answer_is")
    assert grade_by("choice", COLORS, "The answer is D") == Grade("unparsable", None, "no_such_choice")
    for answer in ("The answer is D) red", "D) red", "D. red is it"):
        assert grade_by("choice", COLORS, answer).outcome == "unparsable", answer


def test_ungraded_is_not_wrong() -> None:
    """Catches an accuracy of 0 where nobody looked."""
    assert grade_by("none", MILAN, "Rome") == Grade(None, None, "ungraded")


def test_a_grader_from_elsewhere() -> None:
    """Catches an item that does not reach the grader, a grade that is not its own, and a failure that ends a trial."""
    long = Item("i", "?", "", data={"length": "3"})
    name = "own_plug_ins:is_long"
    assert grade_by(name, long, "four") == Grade("correct", "four", name)
    assert grade_by(name, long, "two") == Grade("wrong", "two", name)
    assert grade_by(name, MILAN, "two") == Grade("unparsable", None, "grader_failed: KeyError")
    assert grade_by("own_plug_ins:with_reason", MILAN, "abcd") == Grade("wrong", "abc", "first three")
    assert grade_by("own_plug_ins:says_yes", MILAN, "?") == Grade("unparsable", None, "grader_failed: TypeError")


def test_a_grader_from_elsewhere_is_in_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches grades of one version of a plug-in taken for those of another."""
    spec = TrialSpec(
        workload=QuestionsSpec(path="q.jsonl", grader="own_plug_ins:is_long"), team=built_in_teams()["recall"]
    )
    first = spec.trial_id
    assert grader_version("exact") is None
    assert len(grader_version("own_plug_ins:is_long") or "") == 12
    monkeypatch.setattr("harness.workloads.own_questions.grader_version", lambda _: "mine 2.0")
    assert spec.trial_id != first


def test_an_installed_package_may_announce_a_grader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an entry point that is not asked, and one that takes a built-in's name."""
    points = [metadata.EntryPoint(name, "own_plug_ins:is_long", "kvcomm.graders") for name in ("long", "exact")]
    monkeypatch.setattr(metadata, "entry_points", lambda **_: points)
    extensions.announced.cache_clear()
    try:
        assert find_grader("long").__name__ == "is_long"
        assert find_grader("exact").__name__ == "exact"
    finally:
        extensions.announced.cache_clear()
