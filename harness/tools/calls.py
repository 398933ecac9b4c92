"""Calls of an agent's tool, whichever tool the role has, and what the tools need from the machine."""

from collections.abc import Mapping
from dataclasses import dataclass

from harness.agents.roles import ToolName
from harness.text import storable
from harness.tools.base import ToolResult
from harness.tools.humaneval.candidate import extract_candidate
from harness.tools.humaneval.execution import doctest_feedback
from harness.tools.python_tool import run_answer
from harness.tools.wiki import Wiki, look_up


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The tools of one trial."""

    wiki: Wiki | None = None
    """None if look-ups are off."""

    allow_unsafe: bool = False
    """Whether model-written code may run where the sandbox is not sufficient."""

    def call(self, tool: ToolName, data: Mapping[str, str], answer: str) -> ToolResult:
        """Return the result of ``tool`` for an agent's answer to an item with this ``data``."""
        answer = storable(answer)
        match tool:
            case "python":
                return run_answer(answer, allow_unsafe=self.allow_unsafe)
            case "doctest":
                prompt, entry_point = data["prompt"], data["entry_point"]
                candidate = extract_candidate(prompt, answer, entry_point)
                code = None if candidate is None else candidate.code
                return doctest_feedback(prompt, entry_point, code, allow_unsafe=self.allow_unsafe)
            case "wiki":
                return look_up(answer, self.wiki)
