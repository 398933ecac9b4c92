"""Candidates under trial: what agents read about them, their grade, and how they try to cheat."""

from pathlib import Path

import pytest
from double_task import FUNCTION, PREAMBLE, PROMPT, TEST

from harness.tools.humaneval.execution import Verdict, doctest_feedback, run_hidden_tests
from harness.tools.sandbox import python_sandbox as sandbox
from harness.tools.sandbox.jail.layers import NEEDED

ACTIVE = sandbox.active_layers()


def grade(code: str, test: str = TEST, timeout_s: float = 10) -> Verdict:
    return run_hidden_tests(PROMPT, PREAMBLE + code, test, "double", timeout_s=timeout_s)


@pytest.mark.parametrize("code", [FUNCTION, "def double(x):\n    print('passed' * 99999)\n    return 2 * x"])
def test_right_candidates_pass(code: str) -> None:
    """Catches a right candidate that fails, perhaps because nobody reads what it prints."""
    assert grade(code) == Verdict("passed", "passed")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def double(x):\n    return 2 * x if x < 7 else 0", "a test failed: seven"),
        ("def double(x):\n    return x * x", "a test failed"),
        ("def double(x):\n    return 1 / 0", "the candidate failed: ZeroDivisionError: division by zero"),
        ("def double(y):\n    return 2 * y if y else y", "unexpected keyword argument 'x'"),
        ("1 / 0\ndef double(x):\n    return 2 * x", "the candidate failed: ZeroDivisionError: division by zero"),
        ("del double\n", "the candidate failed: NameError"),
        ("def double(x):\n    return bytearray(1 << 40)", "the candidate failed: MemoryError"),
        ("def double(x):\n    raise ValueError('two\\nlines')", "the candidate failed: ValueError: two lines"),
        ("def double(x):\n    return double(x)", "the candidate failed: RecursionError"),
        ("def double(x):\n    a = []\n    a.append(a)\n    return a", "the candidate failed: RecursionError"),
    ],
)
def test_wrong_candidates_fail(code: str, reason: str) -> None:
    """Catches a failure that passes, and a reason that names the wrong culprit."""
    verdict = grade(code)
    assert verdict.outcome == "failed"
    assert reason in verdict.reason


@pytest.mark.slow
@pytest.mark.parametrize(
    "cheat",
    [
        "def double(x):\n    print('passed', '{\"passed\": true}', flush=True)",
        "import sys\nprint('passed')\nsys.exit(0)",
        "import os\nos._exit(0)",
        "raise SystemExit(0)",
        "raise KeyboardInterrupt",
        "def double(x):\n    raise SystemExit(0)",
        "def double(x):\n    import os\n    os._exit(0)",
        "def double(x):\n    raise GeneratorExit",
        "def check(candidate):\n    pass\ndef double(x):\n    return 0",
        "import builtins\nbuiltins.AssertionError = type('A', (Exception,), {})\ndef double(x):\n    return 0",
        "import builtins\nbuiltins.abs = builtins.print = lambda *a: 0\ndef double(x):\n    return 0",
        "import sys\nsys.settrace(lambda *a: None)\nsys.excepthook = lambda *a: None\ndef double(x):\n    return 0",
        "import atexit, os\natexit.register(os._exit, 0)\ndef double(x):\n    return 0",
        "import threading, os\nthreading.Thread(target=os._exit, args=(0,)).start()\ndef double(x):\n    return 0",
        "class All(int):\n    __eq__ = lambda self, other: True\n    __ne__ = lambda self, other: False\n"
        "def double(x):\n    return All(0)",
        "class All:\n    __eq__ = lambda self, other: True\n    __sub__ = __rsub__ = __abs__ = lambda self, *a: 0\n"
        "def double(x):\n    return All()",
        "import gc\ndef double(x):\n    found = [o for o in gc.get_objects() if callable(getattr(o, 'check', None))]\n"
        "    return found[0]",
        "import sys\ndef double(x):\n    sys.modules['__main__'].__dict__.update(check=lambda c: None)\n    return 0",
        "import sys\nfor name in ('_send', 'encoded', 'json'):\n"
        "    sys.modules['__main__'].__dict__[name] = lambda *a: None\n"
        "def double(x):\n    return 0",
        # Writes what a judge would report, and a forged answer, into every descriptor that it can write to.
        "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'{\"passed\": true, \"reason\": null}')\n"
        "    except OSError: pass\ndef double(x):\n    return 0",
        "import os\ndef double(x):\n    for fd in range(3, 64):\n"
        "        try: os.write(fd, (15).to_bytes(8, 'big') + b'{\"value\": [[]]}')\n        except OSError: pass\n",
        "import os\ndef double(x):\n    for fd in range(3, 64):\n"
        "        try: os.write(fd, b'\\xff' * 64)\n        except OSError: pass\n",
        "import os\nos.closerange(3, 64)\ndef double(x):\n    return 0",
    ],
)  # fmt: skip
def test_cheats_do_not_pass(cheat: str) -> None:
    """Catches a verdict that the candidate can write, reach or change. Guessing the right values is not a cheat."""
    assert grade(cheat).outcome == "failed"


def test_hidden_tests_are_hidden() -> None:
    """Catches a candidate that finds the tests in its own process and looks up the answers."""
    secret = "def check(candidate):\n    assert candidate(1) == 'the password'"
    thief = (
        "import gc, sys\n"
        "def double(x):\n"
        "    texts = [o for o in gc.get_objects() if isinstance(o, dict)]\n"
        "    frames = [sys._getframe(depth).f_locals for depth in range(6)]\n"
        "    return 'the ' + 'password' if 'the ' + 'password' in repr(texts) + repr(frames) else 0"
    )
    assert grade(thief, secret).outcome == "failed"


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "def double(x):\n    while True: pass",
        "import time\ndef double(x):\n    time.sleep(60)",
        "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\ntime.sleep(60)",
    ],
)
def test_timeout(code: str) -> None:
    """Catches a candidate that holds up the whole trial."""
    verdict = grade(code, timeout_s=1)
    assert (verdict.outcome, verdict.reason) == ("timeout", "the tests did not end within 1 seconds")


def test_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an item graded as wrong because the machine has no sandbox."""
    monkeypatch.setattr(sandbox, "_machine", lambda: sandbox.Machine((), ""))
    assert grade(FUNCTION).outcome == "refused"
    assert doctest_feedback(PROMPT, "double", FUNCTION).outcome == "refused"
    monkeypatch.setattr(sandbox, "_machine", lambda: sandbox.Machine((*NEEDED, "moat"), ""))
    assert grade(FUNCTION).outcome == "refused"
    if sandbox.is_safe(ACTIVE):
        assert grade(FUNCTION) == Verdict("refused", "could not be set up this time: moat")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "text", "outcome"),
    [
        (FUNCTION, "All examples of the task (3) give the stated results.", "passed"),
        ("def double(x):\n    return 4.0 if x else 0", "2 of 3 examples of the task give the stated results.\n"
         "double(helper(2)) gives 4.0 instead of 6", "failed"),
        ("def double(x):\n    return 1 // x", "0 of 3 examples of the task give the stated results.\n"
         "double(2) gives 0 instead of 4\ndouble(helper(2)) gives 0 instead of 6\n"
         "double(0) fails: ZeroDivisionError: integer division or modulo by zero", "failed"),
        ("def double(x):\n    while x > 2: pass\n    return 4", "1 of 3 examples of the task give the stated results.\n"
         "double(helper(2)) gives no result within 1 seconds", "failed"),
        (None, "The answer holds no complete function, so nothing was tried.", "no_code"),
    ],
)  # fmt: skip
def test_doctest_feedback(code: str | None, text: str, outcome: str) -> None:
    """Catches feedback that counts wrongly, calls 4.0 and 4 different, or hangs."""
    candidate = None if code is None else PREAMBLE + code
    result = doctest_feedback(PROMPT, "double", candidate, timeout_s=1 if "no result within" in text else 10)
    assert (result.text, result.outcome) == (text, outcome)


def test_feedback_on_many_long_results() -> None:
    """Catches a report that fills a pipe which nobody reads, and a prompt that grows with a candidate's results."""
    prompt = 'def double(x):\n    """Twice.\n' + "    double(2) == 4\n" * 200 + '    """\n'
    result = doctest_feedback(prompt, "double", "def double(x):\n    return '\N{SNOWMAN}' * 9999")
    assert result.outcome == "failed"
    assert result.text.startswith(
        "0 of 200 examples of the task give the stated results.\ndouble(2) gives '\N{SNOWMAN}"
    )
    assert len(result.text) < 2100


def test_no_examples() -> None:
    """Catches "all of 0 examples pass"."""
    result = doctest_feedback('def double(x):\n    """Twice."""\n', "double", FUNCTION)
    assert (result.text, result.outcome) == ("The task holds no examples that could be tried.", "no_examples")


def test_no_descriptor_is_left_open() -> None:
    """Catches pipes that pile up over a thousand grades."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for code in (FUNCTION, "import os\nos._exit(0)"):
        grade(code)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
