"""The Programming Expert's tool: which code of an answer is run, and what the agents read of it."""

import pytest

from harness.tools import python_tool
from harness.tools.base import MAX_TEXT_CHARS
from harness.tools.python_tool import find_code, run_answer
from harness.tools.sandbox import python_sandbox as sandbox


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("It is 3.", None),
        ("", None),
        ("3", None),
        ("print(3)", None),
        ("x = 3", "x = 3"),
        ("x: int = 3", "x: int = 3"),
        ("def solve():\n    return 3", "def solve():\n    return 3"),
        ("x = 3 eggs", None),
        ("The answer = 3", None),
        ("x = " + "(" * 500 + ")" * 500, None),
        ("x = 3\0", None),
        ("Use\n```python\na = 1\n```\nor\n```python\nb = 2\n```", "b = 2"),
        ("Use\n```python\na = 1\n```\nwhich prints\n```\n1\n```", "a = 1"),
        ("Use\n```\na = 1\n```", "a = 1"),
        ("Use\n```bash\nls\n```", None),
        ("x = 3\n```bash\nls\n```", None),
        ("```python\nnot python\n```", "not python"),
    ],
)
def test_find_code(answer: str, code: str | None) -> None:
    """Catches prose that is run as a program, and a program's printed example that is taken for it."""
    assert find_code(answer) == code


@pytest.mark.parametrize(
    ("code", "text", "outcome"),
    [
        ("print(1 + 1)", "2", "ok"),
        ("def solve():\n    return 6 * 7", "42", "ok"),
        ("def solve(n=6):\n    return n * 7", "42", "ok"),
        ("def solve(n):\n    return n", "The program ran, but printed nothing and defined no result.", "no_output"),
        ("def solve():\n    print(42)\n    return 1\nsolve()", "42", "ok"),
        ("def solve():\n    return 1\nprint(2)", "2", "ok"),
        ("answer = 7", "7", "ok"),
        ("for answer in range(3): pass", "2", "ok"),
        ("def solve():\n    return 1\nanswer = 2", "1", "ok"),
        ("def solve():\n    return 1 / 0", "The program failed: ZeroDivisionError: division by zero", "failed"),
        ("import sys\nsys.exit(1)", "The program failed: it ended without a message", "failed"),
        ("if", "The program failed: SyntaxError: invalid syntax", "failed"),
        ("x = 3", "The program ran, but printed nothing and defined no result.", "no_output"),
        ("pass", "The program ran, but printed nothing and defined no result.", "no_output"),
        ("bytearray(1 << 40)", "The program ran out of memory.", "memory"),
        ("while True: print('x' * 99)", "The program printed too much.", "output"),
        ("while True: pass", "The program did not end within 0.5 seconds.", "timeout"),
        ("print(object())", "<object object at 0x0>", "ok"),
        ("raise ValueError(object())", "The program failed: ValueError: <object object at 0x0>", "failed"),
    ],
)
def test_run_answer(code: str, text: str, outcome: str) -> None:
    """Catches the wrong choice of printed text, ``solve()`` and ``answer``, and a failure that agents cannot read."""
    result = run_answer(f"I compute it.\n```python\n{code}\n```\n", timeout_s=0.5 if outcome == "timeout" else 10)
    assert (result.text, result.outcome) == (text, outcome)


def test_no_code() -> None:
    """Catches an empty text, which would leave a hole in the prompt."""
    result = run_answer("The answer is 3.")
    assert (result.text, result.outcome) == ("The answer holds no Python program, so nothing was run.", "no_code")


def test_long_output_is_cut_and_says_so() -> None:
    """Catches a prompt that grows with a program's output, and a cut that nobody sees."""
    result = run_answer("```python\nprint('x' * 5000)\n```")
    assert result.text == "x" * MAX_TEXT_CHARS + "\n[3000 more characters]"


def test_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a machine without layers whose refusal is taken for the program's own failure."""
    monkeypatch.setattr(sandbox, "_machine", lambda: sandbox.Machine((), ""))
    assert run_answer("```python\nprint(1)\n```") == python_tool.ToolResult("The program was not run.", "refused")
    assert run_answer("```python\nprint(1)\n```", allow_unsafe=True).text == "1"
