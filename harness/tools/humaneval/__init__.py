"""HumanEval: the candidate in an answer, feedback from the task's own examples, and the grade by the hidden tests."""
