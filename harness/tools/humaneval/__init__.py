"""HumanEval: the candidate in an answer, feedback from the task's own examples, and the grade by the hidden tests."""

from harness.tools.humaneval.candidate import Candidate, extract_candidate
from harness.tools.humaneval.execution import FeedbackOutcome, Verdict, doctest_feedback, run_hidden_tests
from harness.tools.humaneval.prompt import defines_check, open_function

__all__ = [
    "Candidate",
    "FeedbackOutcome",
    "Verdict",
    "defines_check",
    "doctest_feedback",
    "extract_candidate",
    "open_function",
    "run_hidden_tests",
]
