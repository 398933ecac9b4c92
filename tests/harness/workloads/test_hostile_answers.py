"""More than 2,000 answers that are meant to break a grader, before the graders of all workloads."""

import multiprocessing

import pytest
from hostile_answers import graded_workloads, grades, hostile_answers, send_grades

from harness.text import storable
from harness.workloads.base import MAX_ANSWER_CHARACTERS, Grade, Item
from harness.workloads.grading import equivalence
from harness.workloads.gsm8k import Gsm8kSpec
from harness.workloads.math500 import Math500Spec

PATIENCE_S = 120
"""For one grade, which takes about a second at most where nothing else runs."""


@pytest.fixture(scope="module")
def grader():
    """The connection to a process that grades: it is sent the name of a workload and sends a grade of each answer."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=send_grades, args=(list(hostile_answers().values()), theirs), daemon=False)
    process.start()
    theirs.close()
    yield ours
    process.kill()
    process.join()


@pytest.mark.slow
@pytest.mark.parametrize("workload", graded_workloads())
def test_every_grader_ends_on_every_answer(workload, grader):
    """Catches an exception out of a grader, a search or a comparison without an end, a grade that cannot be stored."""
    answers = hostile_answers()
    assert len(answers) >= 2000
    grader.send(workload)
    found = {}
    for name in answers:
        if not grader.poll(PATIENCE_S):
            grader.close()  # the process is of no use to the other workloads
            pytest.fail(f"{workload} has no grade after {PATIENCE_S} s: {name}")
        found[name] = grader.recv()
        if not isinstance(found[name], Grade):
            break
    for name, grade in found.items():
        assert isinstance(grade, Grade), f"{name}: {grade}"
        assert grade.outcome in ("correct", "wrong", "unparsable"), f"{name}: {grade}"
        assert (grade.extracted is None) <= (grade.outcome == "unparsable"), f"{name}: {grade}"
        for text in (grade.rule, grade.extracted or ""):
            assert storable(text) == text, name
        is_too_long = len(answers[name]) > MAX_ANSWER_CHARACTERS
        assert is_too_long == (grade.rule == "answer_too_long"), f"{name}: {grade}"


def test_what_a_grader_cannot_cope_with_is_unparsable(monkeypatch):
    """Catches an exception that an answer raises and that ends its trial; one about the machine must still end it."""
    item, spec = Item("x", "?", "42"), Gsm8kSpec()
    for error in (ValueError, OverflowError, RecursionError, MemoryError, UnicodeError):
        monkeypatch.setattr("harness.workloads.gsm8k.grade_number", _raising(error))
        assert spec.grade(item, "42") == Grade("unparsable", None, f"grader_failed: {error.__name__}")
    monkeypatch.setattr("harness.workloads.gsm8k.grade_number", _raising(RuntimeError))
    with pytest.raises(RuntimeError):
        spec.grade(item, "42")


@pytest.mark.slow
def test_a_comparison_gives_up_and_the_next_does_not():
    """Catches a comparison whose limit is none, and one after it that finds a dead worker."""
    (gave_up,) = grades("math500", ["The answer is $9^{9^{9^{9^{9^{9}}}}}!$"])
    assert gave_up == Grade("unparsable", "9^{9^{9^{9^{9^{9}}}}}!", "comparison_gave_up")
    worker = equivalence._worker
    if worker is not None:
        worker.kill()
        worker.wait()
    assert Math500Spec().grade(Item("x", "?", r"\frac{1}{2}"), "The answer is $0.5$.").outcome == "correct"


def _raising(error):
    def grade_number(expected, answer):
        raise error("of this answer")

    return grade_number
