"""The example in the engine's README."""

import re
from pathlib import Path

import pytest

import kvcomm_core

README = Path(kvcomm_core.__file__).parent / "README.md"


@pytest.mark.slow
def test_the_example_runs_and_prints_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Would catch an example that rots: a renamed function, or anchors that are no longer reused."""
    text = README.read_text(encoding="utf-8")
    code = re.search(r"```python\n(.+?)```\n", text, re.DOTALL)
    shown = re.search(r"```text\n(.+?)```\n", text, re.DOTALL)
    assert code is not None
    assert shown is not None
    exec(compile(code[1], str(README), "exec"), {})
    # What the model says may differ in its last words on another machine.
    turns = [line.split()[:3] for line in capsys.readouterr().out.splitlines()]
    assert turns == [line.split()[:3] for line in shown[1].splitlines()]
    assert [(template, mode) for template, mode, _ in turns[-2:]] == [("1", "reuse"), ("2", "reuse")]
