"""A made-up task in HumanEval's format, for tests: return twice a number."""

PROMPT = '''from typing import List
LIMIT = 100

def helper(x: int) -> int:
    return x + 1


def double(x: int) -> int:
    """Return twice x.

    >>> double(2)
    4
    >>> double(helper(2))
    6

    double(0) == 0
    """
'''
PREAMBLE = PROMPT[: PROMPT.index("def double")]
TEST = """
METADATA = {}

def check(candidate):
    assert candidate(1) == 2
    assert candidate(7) == 14, "seven"
    assert double(helper(1)) == 4
    assert abs(candidate(0.5) - 1) < 1e-9
    assert candidate(x=3) == 6
"""
FUNCTION = "def double(x):\n    return 2 * x"
