"""The examples in the text of a HumanEval task, on which its agents may try a candidate."""

import ast
import doctest
import re
from dataclasses import dataclass

from harness.tools.humaneval.prompt import open_function
from harness.tools.parsing import is_literal, parsed_expression

_ARROW = re.compile(r"#\s*=>|==>|=>|->|➞|→|==|=|(?:#\s*|\bshould\s+)?\breturns?\b")
_BEFORE_CALL = re.compile(r"\s*(?:>>>|[*-])?\s*")


@dataclass(frozen=True, slots=True)
class Example:
    """One example of a task: a call of the function and the result the task states, both as Python source."""

    call: str
    expected: str


def examples(prompt: str, entry_point: str) -> list[Example]:
    """Return the examples of a task that can be read without guessing.

    These are the ``>>>`` examples that call the function in one expression and state a result, and the lines ``f(1, 2)
    == 3`` whose arguments and result are literals. In these lines ``=``, ``=>``, ``==>``, ``->``, ``➞``, ``returns``
    and ``should return`` also count, and ``>>>`` or a bullet may come first.
    """
    function = open_function(prompt, entry_point)
    text = (function and ast.get_docstring(function, clean=False)) or ""
    try:
        prompted = doctest.DocTestParser().get_examples(text)
    except ValueError:  # odd indentation; such a text is no doctest
        prompted = []
    found = [
        Example(example.source.strip(), example.want.strip())
        for example in prompted
        if example.want.strip() and example.exc_msg is None and _calls(example.source, entry_point)
    ]
    return found + [example for line in text.splitlines() if (example := _stated(line, entry_point))]


def _stated(line: str, entry_point: str) -> Example | None:
    line = _BEFORE_CALL.sub("", line, count=1)
    for arrow in _ARROW.finditer(line):
        call, expected = line[: arrow.start()].strip(), line[arrow.end() :].strip()
        tree = parsed_expression(call)
        if (
            isinstance(tree, ast.Call)
            and isinstance(tree.func, ast.Name)
            and tree.func.id == entry_point
            and not tree.keywords
            and all(is_literal(ast.unparse(argument)) for argument in tree.args)
            and is_literal(expected)
        ):
            return Example(call, expected)
    return None


def _calls(source: str, entry_point: str) -> bool:
    tree = parsed_expression(source.strip())
    return tree is not None and any(isinstance(n, ast.Name) and n.id == entry_point for n in ast.walk(tree))


def failure(example: Example, result: dict[str, str]) -> str | None:
    """Describe in one line an example that does not give the stated result; None if it does."""
    if "error" in result:
        return f"{example.call} fails: {result['error']}"
    value = result["value"]
    if value == example.expected or " ".join(value.split()) == " ".join(example.expected.split()):
        return None
    both_literal = is_literal(value) and is_literal(example.expected)
    if both_literal and ast.literal_eval(value) == ast.literal_eval(example.expected):
        return None
    return f"{example.call} gives {value} instead of {example.expected}"
