"""The Programming Expert's tool: it runs the code of an answer and reports the result.

The code is the last fenced block labelled as Python, else the last one without a label, else the whole answer, if that
is a Python program that defines or assigns something. The agents read, in this order, the printed output, the value of
``solve()`` and the value of ``answer``. If there is no result, they read one plain sentence that says so and why.
``solve`` is called in a second run, and only if the first printed nothing.
"""

import ast
import re
from typing import Literal

from harness.tools.base import ToolResult, clipped
from harness.tools.fenced import blocks
from harness.tools.parsing import parsed
from harness.tools.sandbox.confined_process import SandboxOutcome, SandboxResult
from harness.tools.sandbox.python_sandbox import TIMEOUT_S, run_python

PythonOutcome = SandboxOutcome | Literal["no_code", "no_output"]
"""The values of ``ToolResult.outcome``. ``no_code``: the answer holds no program. ``no_output``: it ran, but printed
nothing and defined no result."""

_ADDRESS = re.compile(r"\bat 0x[0-9a-f]+")


def run_answer(text: str, *, timeout_s: float = TIMEOUT_S, allow_unsafe: bool = False) -> ToolResult:
    """Return the tool's result for an agent's answer; the same answer gives the same result."""
    code = find_code(text)
    if code is None:
        return ToolResult("The answer holds no Python program, so nothing was run.", "no_code")
    result = run_python(code, timeout_s=timeout_s, allow_unsafe=allow_unsafe)
    shows_value = _value_printer(code)
    if result.outcome == "ok" and not result.stdout.strip() and shows_value is not None:
        result = run_python(f"{code}\n{shows_value}", timeout_s=timeout_s, allow_unsafe=allow_unsafe)
    if result.outcome != "ok":
        return ToolResult(clipped(_why_not(result, timeout_s)), result.outcome)
    # Objects without a text of their own print their address, which differs between runs.
    printed = _ADDRESS.sub("at 0x0", result.stdout).strip()
    if not printed:
        return ToolResult("The program ran, but printed nothing and defined no result.", "no_output")
    return ToolResult(clipped(printed), "ok")


def find_code(text: str) -> str | None:
    """Return the program of an answer, or None; the module's docstring says which code counts."""
    found = blocks(text)
    labelled = [block.code for block in found if block.may_be_python and block.language]
    unlabelled = [block.code for block in found if not block.language]
    if labelled or unlabelled:
        return (labelled or unlabelled)[-1]
    tree = parsed(text)
    kinds = (ast.FunctionDef, ast.Assign, ast.AnnAssign)
    return text if tree is not None and any(isinstance(node, kinds) for node in tree.body) else None


def _value_printer(code: str) -> str | None:
    """Return a line that prints the result that the program defines."""
    tree = parsed(code)
    if tree is None:
        return None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == "solve" and _takes_nothing(node.args):
            return "print(solve())"
    names = {name.id for name in ast.walk(tree) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)}
    return "print(answer)" if "answer" in names else None


def _takes_nothing(arguments: ast.arguments) -> bool:
    positional = len(arguments.posonlyargs) + len(arguments.args)
    return positional == len(arguments.defaults) and None not in arguments.kw_defaults


def _why_not(result: SandboxResult, timeout_s: float) -> str:
    last_line = _ADDRESS.sub("at 0x0", result.stderr).strip().rpartition("\n")[2]
    return {
        "failed": f"The program failed: {last_line or 'it ended without a message'}",
        "timeout": f"The program did not end within {timeout_s:g} seconds.",
        "memory": "The program ran out of memory.",
        "output": "The program printed too much.",
        "refused": "The program was not run.",
    }[result.outcome]
