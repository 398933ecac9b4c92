"""Roles: who the agents of a benchmark are, read from the text files beside this module.

A role's file has two parts, each under a line of its own:

    [system]
    You are ...
    [user]
    Problem:
    {user_question}

    {upstream}
    Solve it ...

``{user_question}`` and ``{upstream}`` each stand once, alone on a line: pieces of a prompt are tokenised apart, so
no word may straddle the edge of a hole.
"""

import re
from dataclasses import dataclass
from pathlib import Path

HOLES = ("user_question", "upstream")
DECIDER = "FinalRefer"

WORKERS: dict[str, tuple[str, ...]] = {
    "recall": ("Reader", "Fact Keeper", "Checker"),
    "gsm8k": ("Math Solver", "Mathematical Analyst", "Programming Expert", "Inspector"),
}
"""The working roles of each workload, in the order they are taken."""

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Role:
    """What one agent is told; ``user`` holds the marks ``{user_question}`` and ``{upstream}``."""

    name: str
    system: str
    user: str


def roles_for(workload_name: str, agents: int) -> tuple[Role, ...]:
    """The roles of agents 1..``agents``; the last decides. Where workers run out, they start over.

    Raises ``ValueError`` for an unknown workload, fewer than two agents or a malformed role file.
    """
    if workload_name not in WORKERS:
        raise ValueError(f"workload is {workload_name!r}; with roles: {', '.join(WORKERS)}")
    if agents < 2:
        raise ValueError(f"agents is {agents}; allowed: 2 or more")
    workers = WORKERS[workload_name]
    names = [workers[index % len(workers)] for index in range(agents - 1)] + [DECIDER]
    return tuple(load_role(name, _role_file(workload_name, name)) for name in names)


def load_role(name: str, path: Path) -> Role:
    """Read and check one role file. Raises ``ValueError`` naming the file and what is wrong with it."""
    parts = re.fullmatch(r"\[system\]\n(.+)\n\[user\]\n(.+)", path.read_text(encoding="utf-8").strip(), re.DOTALL)
    if parts is None:
        raise ValueError(f"{path}: must be a [system] part followed by a [user] part, each with text")
    system, user = parts[1].strip(), parts[2].strip()
    for hole in re.findall(r"\{(.*?)\}", system):
        raise ValueError(f"{path}: hole {{{hole}}} in the system part; holes belong in the user part")
    for hole in re.findall(r"\{(.*?)\}", user):
        if hole not in HOLES:
            raise ValueError(f"{path}: unknown hole {{{hole}}}; allowed: {{user_question}}, {{upstream}}")
    for hole in HOLES:
        if user.count(f"{{{hole}}}") != 1 or f"{{{hole}}}" not in user.splitlines():
            raise ValueError(f"{path}: hole {{{hole}}} must stand exactly once, alone on its line")
    return Role(name, system, user)


def _role_file(workload_name: str, role_name: str) -> Path:
    """``Math Solver`` of gsm8k is ``gsm8k/math_solver.txt``, ``FinalRefer`` is ``gsm8k/final_refer.txt``."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", role_name)
    return _FOLDER / workload_name / f"{words.lower().replace(' ', '_')}.txt"
