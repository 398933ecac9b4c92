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


@pytest.mark.slow
@pytest.mark.parametrize("workload", graded_workloads())
def test_every_grader_ends_on_every_answer(workload):
    """Catches an exception out of a grader, a search or a comparison without an end, a grade that cannot be stored."""
    answers = hostile_answers()
    assert len(answers) >= 2000
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=send_grades, args=(workload, list(answers.values()), theirs), daemon=False)
    process.start()
    theirs.close()
    try:
        for name, answer in answers.items():
            if not ours.poll(PATIENCE_S):
                pytest.fail(f"{workload} has no grade after {PATIENCE_S} s: {name}")
            found = ours.recv()
            assert isinstance(found, Grade), f"{name}: {found}"
            assert found.outcome in ("correct", "wrong", "unparsable"), f"{name}: {found}"
            assert (found.extracted is None) <= (found.outcome == "unparsable"), f"{name}: {found}"
            for text in (found.rule, found.extracted or ""):
                assert storable(text) == text, name
            assert (len(answer) > MAX_ANSWER_CHARACTERS) == (found.rule == "answer_too_long"), f"{name}: {found}"
    finally:
        process.kill()
        process.join()


def test_what_a_grader_cannot_cope_with_is_unparsable(monkeypatch):
    """Catches an exception that an answer raises and that ends its trial; one about the machine must still end it."""
    item, spec = Item("x", "?", "42"), Gsm8kSpec()
    for error in (ValueError, OverflowError, RecursionError, MemoryError, UnicodeError):
        monkeypatch.setattr("harness.workloads.gsm8k.grade_number", _raising(error))
        assert spec.grade(item, "42") == Grade("unparsable", None, f"grader_failed: {error.__name__}")
    monkeypatch.setattr("harness.workloads.gsm8k.grade_number", _raising(RuntimeError))
    with pytest.raises(RuntimeError):
        spec.grade(item, "42")


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
