"""The function that an answer offers for a HumanEval task."""

import ast
import re
from dataclasses import dataclass
from typing import Literal

from harness.tools.fenced import blocks
from harness.tools.humaneval.prompt import preamble
from harness.tools.parsing import parsed


@dataclass(frozen=True, slots=True)
class Candidate:
    """The function asked for, as an answer offers it."""

    code: str
    """A whole program that defines the function."""

    rule: Literal["fenced function", "fenced body", "function", "body"]
    """The rule that found it."""


def extract_candidate(prompt: str, answer: str, entry_point: str) -> Candidate | None:
    """Return the function ``entry_point`` of an answer to the task ``prompt``; None if there is none.

    If the answer has fenced blocks (of Python, or unlabelled), only these count, and the last one that fits wins: it
    defines the function at its top level, or it is an indented body that continues the prompt. Without blocks there are
    two cases. The function runs from a line that begins with ``def entry_point(`` to the next line that is not
    indented. Or the answer begins with an indented line and continues the prompt up to the first line that is not
    indented. The prompt's code before its function, such as imports and helpers, is put before the function. Code that
    does not parse does not count.
    """
    before = preamble(prompt, entry_point)
    offered: list[Candidate] = []
    for block in reversed(blocks(answer)):
        if block.may_be_python:
            offered.append(Candidate(f"{before}{block.code}\n", "fenced function"))
            offered.append(Candidate(_continued(prompt, block.code), "fenced body"))
    if not blocks(answer):
        offered.append(Candidate(f"{before}{_function(answer, entry_point)}\n", "function"))
        offered.append(Candidate(_continued(prompt, _indented_start(answer)), "body"))
    return next((candidate for candidate in offered if _defines(candidate.code, entry_point)), None)


def _continued(prompt: str, body: str) -> str:
    """Return the prompt with ``body`` as the rest of its function; empty if ``body`` does not begin with an indented
    line."""
    lines = [line for line in body.splitlines() if line.strip()]
    return f"{prompt.rstrip()}\n{body.rstrip()}\n" if lines and lines[0][0] in " \t" else ""


def _function(answer: str, entry_point: str) -> str:
    """Return the lines of ``answer`` from the function's ``def`` to the end of its indentation; empty if it has
    none."""
    lines = answer.split("\n")
    start = next((i for i, line in enumerate(lines) if re.match(rf"def\s+{re.escape(entry_point)}\s*\(", line)), None)
    if start is None:
        return ""
    # A signature of several lines may close in the first column.
    end = next(
        (i for i, line in enumerate(lines[start + 1 :], start + 1) if line[:1] not in ("", " ", "\t", ")")), None
    )
    return "\n".join(lines[start:end])


def _indented_start(answer: str) -> str:
    lines = answer.split("\n")
    end = next((i for i, line in enumerate(lines) if line[:1].strip()), None)
    return "\n".join(lines[:end])


def _defines(program: str, entry_point: str) -> bool:
    tree = parsed(program)
    return tree is not None and any(isinstance(n, ast.FunctionDef) and n.name == entry_point for n in tree.body)
