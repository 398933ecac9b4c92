"""Run a candidate on the examples of the task, as feedback to agents, or on the hidden tests, as the grade.

A candidate and its judge run in separate sandboxes (``sides.py``), so that the candidate cannot fake a pass. The hidden
tests serve the grade alone; agents only ever see ``doctest_feedback``.
"""

import json
import os
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.tools.base import ToolResult, clipped
from harness.tools.humaneval import sides
from harness.tools.humaneval.examples import examples, failure
from harness.tools.humaneval.prompt import preamble
from harness.tools.sandbox.confined_process import SandboxOutcome
from harness.tools.sandbox.jail.layers import UnsafeSandboxError
from harness.tools.sandbox.python_sandbox import TIMEOUT_S, require_safe, sandboxed

_SIDES = Path(sides.__file__)
_SHOWN_FAILURES = 3

FeedbackOutcome = Literal["passed", "failed", "no_code", "no_examples", "refused"]
"""The values of ``ToolResult.outcome`` for ``doctest_feedback``."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The hidden tests' verdict on a candidate."""

    outcome: Literal["passed", "failed", "timeout", "refused"]
    """``refused``: there was no sandbox, so nothing is known of the candidate."""

    reason: str
    """The reason why it did not pass, in one line; ``passed`` if it did."""

    @property
    def passed(self) -> bool:
        return self.outcome == "passed"


def run_hidden_tests(
    prompt: str,
    candidate_code: str,
    test: str,
    entry_point: str,
    *,
    timeout_s: float = TIMEOUT_S,
    allow_unsafe: bool = False,
) -> Verdict:
    """Test whether a candidate (``Candidate.code``) passes HumanEval's ``check`` within ``timeout_s`` seconds in
    total."""
    side = f"judge({preamble(prompt, entry_point)!r}, {test!r}, {entry_point!r}"
    outcome, report = _judged(candidate_code, entry_point, side, timeout_s, allow_unsafe)
    if outcome == "refused":
        return Verdict("refused", report)
    if outcome == "timeout":
        return Verdict("timeout", f"the tests did not end within {timeout_s:g} seconds")
    if not report:  # the candidate's return value crashed the judge's process
        return Verdict("failed", f"the tests ended with outcome {outcome}")
    try:
        verdict = json.loads(report)
    except ValueError:  # cut off
        return Verdict("failed", f"the tests ended with outcome {outcome}, their report cut off")
    return Verdict("passed" if verdict["passed"] else "failed", verdict["reason"])


def doctest_feedback(
    prompt: str,
    entry_point: str,
    candidate: str | None,
    *,
    timeout_s: float = TIMEOUT_S,
    allow_unsafe: bool = False,
) -> ToolResult:
    """Return the agents' feedback on a candidate (``Candidate.code``): its results on the examples of the task
    itself."""
    if candidate is None:
        return ToolResult("The answer holds no complete function, so nothing was tried.", "no_code")
    found = examples(prompt, entry_point)
    if not found:
        return ToolResult("The task holds no examples that could be tried.", "no_examples")
    side = f"try_examples({preamble(prompt, entry_point)!r}, {[e.call for e in found]!r}, {entry_point!r}"
    outcome, report = _judged(candidate, entry_point, side, timeout_s, allow_unsafe)
    if outcome == "refused":
        return ToolResult("The examples were not tried.", "refused")
    # A line without a line end was cut off.
    results = [json.loads(line) for line in report.split("\n")[:-1]]
    failures = [failure(example, result) for example, result in zip(found, results, strict=False)]
    if len(results) < len(found):
        why = f"within {timeout_s:g} seconds" if outcome == "timeout" else "that could be read"
        failures.append(f"{found[len(results)].call} gives no result {why}")
    shown = [failure for failure in failures if failure is not None]
    if not shown:
        return ToolResult(f"All examples of the task ({len(found)}) give the stated results.", "passed")
    passed = failures.count(None)
    lines = [f"{passed} of {len(found)} examples of the task give the stated results.", *shown[:_SHOWN_FAILURES]]
    return ToolResult(clipped("\n".join(lines)), "failed")


def _judged(
    candidate: str, entry_point: str, side: str, timeout_s: float, allow_unsafe: bool
) -> tuple[SandboxOutcome, str]:
    """Start both sides, wait for the judge to end, and return how it ended and everything it reported.

    For ``refused`` the report is the reason.
    """
    try:
        require_safe(allow_unsafe)
    except UnsafeSandboxError as error:
        return "refused", str(error)
    ours: list[int] = []
    with ExitStack() as stack:
        stack.callback(_close_all, ours)
        ours += [*os.pipe(), *os.pipe()]
        requests_in, requests_out, responses_in, responses_out = ours
        report = stack.enter_context(tempfile.TemporaryFile())  # unlike a pipe, a file is never full
        serve = f"serve({candidate!r}, {entry_point!r}, {requests_in}, {responses_out})"
        judge = f"{side}, {requests_out}, {responses_in}, {report.fileno()})"
        candidates, judges = (
            stack.enter_context(sandboxed(_program(call), timeout_s=timeout_s, pass_fds=descriptors))
            for call, descriptors in (
                (serve, (requests_in, responses_out)),
                (judge, (requests_out, responses_in, report.fileno())),
            )
        )
        _close_all(ours)  # so that each side notices when the other is gone
        for process in (candidates, judges):
            reason = process.refusal()
            if reason is not None:
                return "refused", reason
        outcome = judges.result().outcome
        report.seek(0)
        return outcome, report.read().decode()


def _program(call: str) -> str:
    return f"{_SIDES.read_text(encoding='utf-8')}\n{call}\n"


def _close_all(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())
