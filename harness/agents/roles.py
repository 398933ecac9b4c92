r"""Roles: the prompt of an agent, read from a text file.

A file has two parts, each under a line of its own. A role with a tool may name it before them:

    [tool]
    python
    [system]
    You are ...
    [user]
    Problem:
    {user_question}

    {upstream}

    Solve it ...
    {final_line}

``{user_question}`` and ``{upstream}``, the answers that the role reads, each stand once, alone on a line. The pieces of
a prompt are tokenised separately, so no word may cross the edge of a hole. A hole is a name in braces after white
space; braces elsewhere, as in ``\frac{1}{2}``, are text.

In a team with edges of its own, ``{agent:Researcher}``, alone on its line, places the answer of one role, and the
result of its tool. ``{upstream}`` then stands for the answers that have no place of their own, and may be left out if
there are none.

Teams that share files may differ in how an answer has to end. The files write ``{answer 17}`` for the last line of an
example, and ``{final_line}`` for the request to end like that. Reading a file fills in both (``Ending``).

We wrote the examples in the files; none comes from a benchmark.
"""

import re
from dataclasses import dataclass
from typing import Literal, cast, get_args

from kvcomm_core.config import shown

ToolName = Literal["python", "doctest", "wiki"]
"""``python`` runs the code of the agent's answer. ``doctest`` runs the function in it on the examples of its
docstring. ``wiki`` looks up the entities that the answer marks as @entity@. The agents that read the answer also
read the result."""

HOLES = ("user_question", "upstream")
HOLE = re.compile(r"(?<!\S)\{([a-z_]\w*)\}")
PLACED = re.compile(r"^\{agent:([^{}\n]+)\}$", re.MULTILINE)
"""The place of one role's answer."""
_MISPLACED = re.compile(r"\{\s*agent\b[^{}\n]*\}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Role:
    """The prompt of one agent; ``user`` holds the marks of its holes."""

    name: str
    system: str
    user: str
    tool: ToolName | None = None
    max_new_tokens: int | None = None
    """Maximum length of its answers, in tokens; None for the trial's ``max_new_tokens``."""

    @property
    def runs_code(self) -> bool:
        """Whether the role's tool runs code that a model wrote."""
        return self.tool in ("python", "doctest")

    @property
    def places(self) -> tuple[str, ...]:
        """Names of the roles whose answers have a place of their own in the prompt."""
        return tuple(PLACED.findall(self.user))


@dataclass(frozen=True, slots=True)
class Ending:
    """The ending that the answers of a team must have."""

    answer: str = "The answer is N"
    """The last line of an answer, where N stands for the result."""

    allowed: str = ""
    """The allowed values of N, as the end of a sentence."""

    def fill(self, text: str) -> str:
        """Return ``text`` with its ``{final_line}`` and every ``{answer ...}`` filled in."""
        final_line = f"End with a line of the form: {self.answer}{self.allowed}"
        text = text.replace("{final_line}", final_line)
        return re.sub(r"^\{answer (.+)\}$", lambda mark: self.answer.replace("N", mark[1]), text, flags=re.MULTILINE)


def parse_role(name: str, text: str, place: str, ending: Ending) -> Role:
    """Return the role that the text of a file defines. Raise ``ValueError`` naming ``place`` and the fault."""
    parts = re.fullmatch(
        r"(?:\[tool\]\n(.+?)\n)?\[system\]\n(.+)\n\[user\]\n(.+)", ending.fill(text.strip()), re.DOTALL
    )
    if parts is None:
        raise ValueError(
            f"{place}: must be a [system] part followed by a [user] part, each with text, perhaps after a [tool] part"
        )
    return make_role(name, parts[2], parts[3], parts[1], place)


def make_role(name: str, system: str, user: str, tool: str | None, place: str) -> Role:
    """Return a role whose texts and tool are checked. Raise ``ValueError`` naming ``place`` and the fault."""
    if tool is not None and tool not in get_args(ToolName):
        raise ValueError(f"{place}: tool is {tool!r}; allowed: {', '.join(get_args(ToolName))}")
    system, user = system.strip(), user.strip()
    role = Role(name, system, user, cast("ToolName | None", tool))
    for hole in [*HOLE.findall(system), *(mark.strip("{}") for mark in _MISPLACED.findall(system))]:
        raise ValueError(f"{place}: hole {{{hole}}} in the system part; holes belong in the user part")
    for hole in HOLE.findall(user):
        if hole not in HOLES:
            allowed = "{user_question}, {upstream}, or {agent:ROLE} in a team with edges of its own"
            raise ValueError(f"{place}: unknown hole {{{hole}}}; allowed: {allowed}")
    for hole in HOLES:
        optional = hole == "upstream" and f"{{{hole}}}" not in f"{system}{user}"
        if not optional and (f"{system}{user}".count(f"{{{hole}}}") != 1 or f"{{{hole}}}" not in user.splitlines()):
            raise ValueError(f"{place}: hole {{{hole}}} must stand exactly once, alone on its line")
    for mark in _MISPLACED.findall(user):
        if not PLACED.fullmatch(mark) or mark not in user.splitlines() or user.count(mark) > 1:
            raise ValueError(f"{place}: hole {shown(mark)} must stand once, alone on its line, as {{agent:ROLE}}")
    if "{answer " in f"{system}{user}":
        raise ValueError(f"{place}: an {{answer ...}} must stand alone on its line")
    return role
