"""humaneval: the rows, and how a verdict of the sandbox becomes a grade. No model-written code is run here."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.tools.humaneval import candidate, execution
from harness.workloads.base import Grade, Item
from harness.workloads.humaneval import HumanEvalSpec

ROW = {
    "task_id": "HumanEval/0",
    "prompt": '\n\ndef twice(x):\n    """ Double x. """\n',
    "entry_point": "twice",
    "canonical_solution": "    return 2 * x\n",
    "test": "\n\ndef check(candidate):\n    assert candidate(2) == 4\n",
}


@pytest.mark.parametrize("name", ["problems.jsonl", "problems.jsonl.gz"])
def test_items(tmp_path: Path, name: str) -> None:
    """Catches a prompt or test that lost the white space it needs to run, and the packed form of the PyPI package."""
    content = f"{json.dumps(ROW)}\n".encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    [item] = HumanEvalSpec(path=str(tmp_path / name)).load(seed=0)
    assert item == Item(
        "HumanEval/0",
        'def twice(x):\n    """ Double x. """',
        "    return 2 * x\n",
        data={"prompt": ROW["prompt"], "entry_point": "twice", "test": ROW["test"]},
    )


@pytest.mark.parametrize("field", list(ROW))
@pytest.mark.parametrize("value", [None, "", 3])
def test_malformed_rows_are_named(tmp_path: Path, field: str, value: object) -> None:
    """Catches a problem without tests, which every answer would pass."""
    path = tmp_path / "bad.jsonl"
    path.write_text(f"{json.dumps(ROW)}\n{json.dumps({**ROW, field: value})}\n")
    with pytest.raises(ValueError, match=rf"bad\.jsonl line 2: {field} is {value!r}; allowed: text"):
        HumanEvalSpec(path=str(path)).load(seed=0)


@dataclass(frozen=True)
class FakeCandidate:
    code: str
    rule: str = "fenced function"


@dataclass(frozen=True)
class FakeVerdict:
    outcome: str
    reason: str = "because"

    @property
    def passed(self) -> bool:
        return self.outcome == "passed"


def test_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches arguments in the wrong order, code that was not run counted as wrong, and a reason that is lost."""
    item = Item("HumanEval/0", "?", "", data={k: ROW[k] for k in ("prompt", "entry_point", "test")})

    def extract_candidate(prompt: str, answer: str, entry_point: str) -> FakeCandidate | None:
        assert (prompt, entry_point) == (ROW["prompt"], "twice")
        return FakeCandidate(answer) if answer else None

    def run_hidden_tests(prompt: str, code: str, test: str, entry_point: str, *, allow_unsafe: bool) -> FakeVerdict:
        assert (prompt, test, entry_point) == (ROW["prompt"], ROW["test"], "twice")
        return FakeVerdict(code)

    monkeypatch.setattr(candidate, "extract_candidate", extract_candidate)
    monkeypatch.setattr(execution, "run_hidden_tests", run_hidden_tests)
    assert HumanEvalSpec().grade(item, "passed") == Grade("correct", "passed", "fenced function")
    assert HumanEvalSpec().grade(item, "failed") == Grade("wrong", "failed", "fenced function: because")
    assert HumanEvalSpec().grade(item, "timeout") == Grade("wrong", "timeout", "fenced function: because")
    assert HumanEvalSpec().grade(item, "refused") == Grade("error", "refused", "fenced function: because")
    assert HumanEvalSpec().grade(item, "") == Grade("unparsable", None, "no_candidate")
