"""HumanEval: the candidate in an answer, feedback from the task's own examples, and the grade by the hidden tests."""

from harness.tools.humaneval.candidate import Candidate, extract_candidate
from harness.tools.humaneval.execution import FeedbackOutcome, Verdict, doctest_feedback, run_hidden_tests

__all__ = ["Candidate", "FeedbackOutcome", "Verdict", "doctest_feedback", "extract_candidate", "run_hidden_tests"]
