r"""Roles: the agents of each workload, read from the text files beside this module.

A role's file has two parts, each under a line of its own. A role with a tool names it before them:

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

``{user_question}`` and ``{upstream}`` each stand once, alone on a line. The pieces of a prompt are tokenised
separately, so no word may cross the edge of a hole. A hole is a name in braces after white space; braces elsewhere, as
in ``\frac{1}{2}``, are text.

Workloads that share a folder differ in how an answer has to end. Their files write ``{answer 17}`` for the last line of
an example, and ``{final_line}`` for the request to end like that. Reading a file fills in both.

We wrote the examples in the files; none comes from a benchmark.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

ToolName = Literal["python", "doctest", "wiki"]
"""``python`` runs the code of the agent's answer. ``doctest`` runs the function in it on the examples of its
docstring. ``wiki`` looks up the entities that the answer marks as @entity@. The agents that read the answer also
read the result."""

HOLES = ("user_question", "upstream")
HOLE = re.compile(r"(?<!\S)\{([a-z_]\w*)\}")
DECIDER = "FinalRefer"


@dataclass(frozen=True, slots=True)
class Team:
    """The roles that work on one workload."""

    workers: tuple[str, ...]
    """Worker roles, in the order in which agents take them."""

    alone: str
    """The worker role that answers where there is a single agent."""

    folder: str
    """Folder of the role files, beside this module."""

    answer: str = "The answer is N"
    """The last line of an answer, where N stands for the result."""

    allowed: str = ""
    """The allowed values of N, as the end of a sentence."""

    def fill(self, text: str) -> str:
        """Return ``text`` with its ``{final_line}`` and every ``{answer ...}`` filled in."""
        final_line = f"End with a line of the form: {self.answer}{self.allowed}"
        text = text.replace("{final_line}", final_line)
        return re.sub(r"^\{answer (.+)\}$", lambda mark: self.answer.replace("N", mark[1]), text, flags=re.MULTILINE)


_MATHEMATICS = ("Math Solver", "Mathematical Analyst", "Programming Expert", "Inspector")

TEAMS: dict[str, Team] = {
    "recall": Team(("Reader", "Fact Keeper", "Checker"), "Reader", "recall"),
    "gsm8k": Team(_MATHEMATICS, "Math Solver", "math"),
    "math500": Team(_MATHEMATICS, "Math Solver", "math", answer=r"The answer is \boxed{N}"),
    "aime": Team(_MATHEMATICS, "Math Solver", "math", allowed=", where N is an integer from 0 to 999"),
    "mmlu": Team(
        (
            "Knowledgeable Expert",
            "Wiki Searcher",
            "Critic",
            "Mathematician",
            "Psychologist",
            "Historian",
            "Doctor",
            "Lawyer",
            "Economist",
            "Programmer",
        ),
        "Knowledgeable Expert",
        "mmlu",
    ),
    "humaneval": Team(
        ("Project Manager", "Algorithm Designer", "Programming Expert", "Test Analyst", "Bug Fixer"),
        "Programming Expert",
        "humaneval",
    ),
}
"""One team per workload. The first roles of each are those of the paper, in its order."""

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Role:
    """The prompt of one agent; ``user`` holds the marks ``{user_question}`` and ``{upstream}``."""

    name: str
    system: str
    user: str
    tool: ToolName | None = None

    @property
    def runs_code(self) -> bool:
        """Whether the role's tool runs code that a model wrote."""
        return self.tool in ("python", "doctest")


def roles_for(workload_name: str, agents: int) -> tuple[Role, ...]:
    """Return the roles of agents 1..``agents``; the last one decides. If there are more agents than worker roles, the
    roles repeat. A single agent gets the role that answers alone.

    Raise ``ValueError`` for an unknown workload, fewer than one agent or a malformed role file.
    """
    if workload_name not in TEAMS:
        raise ValueError(f"workload is {workload_name!r}; with roles: {', '.join(TEAMS)}")
    if agents < 1:
        raise ValueError(f"agents is {agents}; allowed: 1 or more")
    team = TEAMS[workload_name]
    workers = [team.workers[index % len(team.workers)] for index in range(agents - 1)]
    names = [*workers, DECIDER] if workers else [team.alone]
    return tuple(load_role(name, _FOLDER / team.folder / _file_name(name), team) for name in names)


def load_role(name: str, path: Path, team: Team) -> Role:
    """Read and check one role file. Raise ``ValueError`` naming the file and its fault."""
    text = team.fill(path.read_text(encoding="utf-8").strip())
    parts = re.fullmatch(r"(?:\[tool\]\n(.+?)\n)?\[system\]\n(.+)\n\[user\]\n(.+)", text, re.DOTALL)
    if parts is None:
        raise ValueError(
            f"{path}: must be a [system] part followed by a [user] part, each with text, perhaps after a [tool] part"
        )
    tool, system, user = parts[1], parts[2].strip(), parts[3].strip()
    if tool is not None and tool not in get_args(ToolName):
        raise ValueError(f"{path}: tool is {tool!r}; allowed: {', '.join(get_args(ToolName))}")
    for hole in HOLE.findall(system):
        raise ValueError(f"{path}: hole {{{hole}}} in the system part; holes belong in the user part")
    for hole in HOLE.findall(user):
        if hole not in HOLES:
            raise ValueError(f"{path}: unknown hole {{{hole}}}; allowed: {{user_question}}, {{upstream}}")
    for hole in HOLES:
        if text.count(f"{{{hole}}}") != 1 or f"{{{hole}}}" not in user.splitlines():
            raise ValueError(f"{path}: hole {{{hole}}} must stand exactly once, alone on its line")
    if "{answer " in text:
        raise ValueError(f"{path}: an {{answer ...}} must stand alone on its line")
    return Role(name, system, user, cast("ToolName | None", tool))


def _file_name(role_name: str) -> str:
    """Return a role's file name: ``math_solver.txt`` for ``Math Solver``, ``final_refer.txt`` for ``FinalRefer``."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", role_name)
    return f"{words.lower().replace(' ', '_')}.txt"
