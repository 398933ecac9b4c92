"""What counts as a candidate in an answer."""

import pytest
from double_task import FUNCTION, PREAMBLE, PROMPT, TEST

from harness.tools.humaneval.candidate import extract_candidate
from harness.tools.humaneval.execution import run_hidden_tests

BODY = "    return 2 * x\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "rule", "code"),
    [
        (f"Here:\n```python\n{FUNCTION}\n```\nDone.", "fenced function", f"{PREAMBLE}{FUNCTION}\n"),
        (f"```\n{FUNCTION}\n```", "fenced function", f"{PREAMBLE}{FUNCTION}\n"),
        (f"```python\n{FUNCTION}", "fenced function", f"{PREAMBLE}{FUNCTION}\n"),
        (f"```python\n{PROMPT}{BODY}```", "fenced function", f"{PREAMBLE}{PROMPT}{BODY.rstrip()}\n"),
        (f"```python\n{FUNCTION}\n```\n```python\nprint(double(2))\n```", "fenced function", f"{PREAMBLE}{FUNCTION}\n"),
        (f"```python\ndef double(x): return 0\n```\nBetter:\n```python\n{FUNCTION}\n```", "fenced function", None),
        (f"```python\n{BODY}```", "fenced body", f"{PROMPT.rstrip()}\n{BODY.rstrip()}\n"),
        (f"It is:\n{FUNCTION}\nThat is it.", "function", f"{PREAMBLE}{FUNCTION}\n"),
        ("def double(\n    x,\n):\n    return 2 * x", "function", None),
        (BODY, "body", f"{PROMPT.rstrip()}\n{BODY.rstrip()}\n"),
        (f"\n{BODY}\n\nprint(double(2))", "body", None),
        ("```python\nasync def double(x): return 1\n```", None, None),
        ("```python\nclass A:\n    def double(self, x): return 1\n```", None, None),
        ("```python\ndef double(x)\n    return 1\n```", None, None),
        ("```python\ndef triple(x): return 3 * x\n```", None, None),
        ("```python\ndouble = lambda x: 2 * x\n```", None, None),
        (f"```bash\n{FUNCTION}\n```", None, None),
        (f"{FUNCTION}\n```python\nprint(double(2))\n```", None, None),
        ("def double(x)", None, None),
        ("The answer is 2 * x", None, None),
        ("return 2 * x", None, None),
        ("", None, None),
    ],
)
def test_extract_candidate(answer: str, rule: str | None, code: str | None) -> None:
    """Catches prose, another function or half a function taken for the candidate, and an import of the task lost."""
    candidate = extract_candidate(PROMPT, answer, "double")
    assert (candidate and candidate.rule) == rule
    if candidate is not None:
        assert code is None or candidate.code == code
        assert run_hidden_tests(PROMPT, candidate.code, TEST, "double").passed
