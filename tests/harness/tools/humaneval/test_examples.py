"""The examples of a task that are read, and those that are left alone."""

import pytest

from harness.tools.humaneval.examples import Example, examples


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("double(2) == 4", [Example("double(2)", "4")]),
        ("    double([1, 'a'], 2.5) = (1, None)  ", [Example("double([1, 'a'], 2.5)", "(1, None)")]),
        ("double('a=b') => 'c'", [Example("double('a=b')", "'c'")]),
        ("double(2) ==> 4", [Example("double(2)", "4")]),
        ("double(-2) -> -4", [Example("double(-2)", "-4")]),
        ("double('[]') ➞ True", [Example("double('[]')", "True")]),
        ('double("a") # => "b" (a remark)', []),
        ('double("a") # => "b" # a remark', [Example('double("a")', '"b" # a remark')]),
        ("double(2) returns 4", [Example("double(2)", "4")]),
        ("* double(2) should return 4", [Example("double(2)", "4")]),
        (">>> double(2) == 4", [Example("double(2)", "4")]),
        ("For example, double(2) == 4", []),
        ("double(2) == 1 + 3 = 4", []),
        ("double(x) == 4", []),
        ("double(helper(1)) == 4", []),
        ("double(2) is 4", []),
        ("double(2)", []),
        ("triple(2) == 6", []),
        ("double(__import__('os').system('ls')) == 0", []),
        (">>> double(2)\n    4", [Example("double(2)", "4")]),
        (">>> triple(2)\n    6", []),
        (">>> double(2); double(3)\n    6", []),
        (">>> double(2)\n", []),
    ],
)
def test_examples(line: str, expected: list[Example]) -> None:
    """Catches an example that is guessed at, and so tells agents that a right candidate is wrong."""
    assert examples(f'def double(x):\n    """Twice.\n    {line}\n    """\n', "double") == expected
