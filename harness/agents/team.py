"""Teams: the roles of agents that work together, and who reads whom.

A team is plain data without paths, so a trial carries it to whatever process runs it, and its record explains itself.
``team_file.py`` reads a team from YAML, the teams of the built-in workloads among them.
"""

import functools
import hashlib
import json
from dataclasses import asdict, dataclass

from harness.agents.roles import Role
from harness.topology import Topology
from kvcomm_core.config import require


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """Roles, with edges of their own or for any topology."""

    __pydantic_config__ = {"extra": "forbid", "strict": True}  # noqa: RUF012 - read by pydantic, not a field

    name: str
    """The name of the team in tables."""

    roles: tuple[Role, ...]
    """With ``graph``: the roles of agents 1..n. Otherwise the workers' roles, in the order in which agents take them,
    and last that of the decision agent."""

    graph: Topology | None = None
    """The team's own edges. None if the trial's topology says who reads whom."""

    alone: str | None = None
    """The name of the worker's role that answers where there is a single agent; None with ``graph``."""

    @property
    def agents(self) -> int | None:
        """Number of agents; None if a trial may have any number."""
        return None if self.graph is None else len(self.roles)

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of everything but the name."""
        return _digest_of(self)

    @property
    def label(self) -> str:
        """The name and the beginning of the digest, such as ``newsroom@1f2e3d``, for tables."""
        return label_of(self.name, self.digest)

    def roles_of(self, agents: int) -> tuple[Role, ...]:
        """Return the roles of agents 1..``agents``.

        Without ``graph`` the last one decides. If there are more agents than workers' roles, these repeat. A single
        agent gets the role ``alone``. Raise ``ValueError`` for a number that the team cannot have.
        """
        require(agents >= 1, "agents", agents, "1 or more")
        if self.graph is not None:
            require(agents == len(self.roles), "agents", agents, f"{len(self.roles)}, the roles of team {self.name}")
            return self.roles
        *workers, decider = self.roles
        if agents == 1:
            return tuple(role for role in workers if role.name == self.alone)
        return (*(workers[index % len(workers)] for index in range(agents - 1)), decider)


@functools.lru_cache(maxsize=256)  # all trials of a sweep share their team, which is frozen
def _digest_of(team: Team) -> str:
    content = asdict(team)
    del content["name"]
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def label_of(name: object, digest: object) -> str:
    """Return the label of the team with this name and digest, as a record holds them."""
    return f"{name}@{str(digest)[:6]}"
