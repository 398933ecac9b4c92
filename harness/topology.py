"""Topologies: edges over agents with an execution order, which say who reads whom.

Agents 1..n answer in this order. In a round an agent reads the answers of agents that have answered before it. One
agent decides: its last answer is the team's.

The built-in topologies are the functions of ``named_topologies.py``. A function elsewhere is named as
``module:function``, or by the name under which an installed package announces it (group ``kvcomm.topologies``). Each is
called with the number of agents and the trial's seed, and returns its edges as pairs of ids: ``(1, 3)`` if agent 3
reads agent 1. It may also return a ``Topology``. Equal arguments must give equal edges. An agent reads smaller ids
alone, so there are no cycles; the last agent decides.

*Several rounds.* From the second round on an agent also reads answers of the round before: its own and those of the
agents that read it (``feedback``), so that a link carries the latest answers in both directions. A topology that
returns a ``Topology`` may say otherwise.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, cast

from harness.extensions import UnknownNameError, find, version_of
from kvcomm_core.config import one_line, require, shown

GROUP: Final = "topologies"

BUILT_IN: Final = {
    name: f"harness.named_topologies:{name}"
    for name in ("fully_connected", "chain", "star", "layered", "debate", "mesh", "random", "single")
}

OWN_EDGES: Final = "team"
"""The topology of a trial whose team has edges of its own."""

MAX_AGENTS = 1000
"""Upper limit of agents, far beyond what a model's context holds. It keeps a mistyped number from taking all memory
during planning."""


@dataclass(frozen=True, slots=True)
class Topology:
    """Agents 1..n in execution order."""

    upstream: tuple[tuple[int, ...], ...]
    """``upstream[i]`` are the ids of the agents whose answers agent ``i + 1`` reads, in reading order."""

    remembered: tuple[tuple[int, ...], ...]
    """``remembered[i]`` are the ids of the agents whose answers of the round before agent ``i + 1`` reads."""

    decider: int | None = None
    """The id of the agent whose answer is the team's; None for the last one."""

    def __post_init__(self) -> None:
        require(len(self.remembered) == self.agents, "remembered", self.remembered, f"ids for {self.agents} agents")
        for agent_id, read in enumerate(self.upstream, start=1):
            distinct = len(set(read)) == len(read)
            allowed = f"different ids from 1 to {agent_id - 1}, which answer before agent {agent_id}"
            require(distinct and all(1 <= other < agent_id for other in read), "upstream", read, allowed)
        for read in (*self.remembered, (self.decision_agent,)):
            distinct = len(set(read)) == len(read)
            known = all(1 <= other <= self.agents for other in read)
            require(distinct and known, "remembered or decider", read, f"different ids from 1 to {self.agents}")

    @property
    def agents(self) -> int:
        """Number of agents, the decision agent included."""
        return len(self.upstream)

    @property
    def decision_agent(self) -> int:
        """Id of the agent that decides."""
        return self.agents if self.decider is None else self.decider

    def read_by(self, agent_id: int) -> tuple[int, ...]:
        """Return the agents whose answers of this round ``agent_id`` (1-based) reads."""
        return self.upstream[self._index(agent_id)]

    def remembered_by(self, agent_id: int) -> tuple[int, ...]:
        """Return the agents whose answers of the round before ``agent_id`` (1-based) reads, from the second round
        on."""
        return self.remembered[self._index(agent_id)]

    def levels(self) -> tuple[tuple[int, ...], ...]:
        """Group the agents by the longest path of edges that leads to them, each level in execution order.

        Agents of one level read nothing from each other within a round, so their order does not change the answers of
        exact methods. It may change those of ``kvcomm``, whose pools grow from turn to turn.
        """
        depth: list[int] = []
        for upstream in self.upstream:
            depth.append(1 + max((depth[other - 1] for other in upstream), default=-1))
        return tuple(
            tuple(agent_id for agent_id, own in enumerate(depth, start=1) if own == level)
            for level in range(max(depth) + 1)
        )

    def _index(self, agent_id: int) -> int:
        require(1 <= agent_id <= self.agents, "agent_id", agent_id, f"1 to {self.agents}")
        return agent_id - 1


Edges = Topology | Iterable[tuple[int, int]]
"""The result of a topology's function."""


def feedback(upstream: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Return, for each agent, itself and the agents that read it."""
    everybody = range(1, len(upstream) + 1)
    return tuple((own, *(reader for reader in everybody if own in upstream[reader - 1])) for own in everybody)


def build_topology(name: str, agents: int, seed: int) -> Topology:
    """Build the topology ``name`` of ``agents`` agents, the decision agent included.

    Raise ``ValueError`` for an unknown name, a number of agents that the topology cannot have, or edges that are none.
    """
    check_agents(name, agents)
    return _built(name, agents, seed)


def check_agents(name: str, agents: int) -> None:
    """Raise ``ValueError`` for an unknown topology, or one that cannot have so many agents."""
    _find(name)
    if name == "single":
        require(agents == 1, "agents", agents, "1, with topology single")
    elif name in BUILT_IN:
        require(2 <= agents <= MAX_AGENTS, "agents", agents, f"2 to {MAX_AGENTS}; 1 with topology single")
    else:
        require(1 <= agents <= MAX_AGENTS, "agents", agents, f"1 to {MAX_AGENTS}")


def depends_on_seed(name: str) -> bool:
    """Return whether the seed may decide who reads whom."""
    return name == "random" or name not in (*BUILT_IN, OWN_EDGES)


def topology_version(name: str) -> str | None:
    """Return the version of a plug-in, or None for a built-in topology and for edges of a team's own."""
    return None if name == OWN_EDGES else version_of(GROUP, name, BUILT_IN)


def _find(name: str) -> Callable[[int, int], object]:
    try:
        found = find(GROUP, name, BUILT_IN, form="module:function")
    except UnknownNameError as error:
        raise ValueError(f"topology is {shown(name)}; {error}") from None
    require(callable(found), "topology", name, f"a function, or {', '.join(BUILT_IN)}")
    return cast("Callable[[int, int], object]", found)


@functools.lru_cache(maxsize=1000)  # each trial of a sweep asks for it several times
def _built(name: str, agents: int, seed: int) -> Topology:
    place = f"topology is {shown(name)}, which for {agents} agents and seed {seed}"
    try:
        found = _find(name)(agents, seed)
        topology = found if isinstance(found, Topology) else _of_pairs(found, agents)
    except Exception as error:  # a plug-in may fail with anything
        if name in BUILT_IN:
            raise
        raise ValueError(f"{place} fails: {one_line(error) or type(error).__name__}") from None
    if topology.agents != agents:
        raise ValueError(f"{place} has {topology.agents} agents; allowed: {agents}")
    return topology


def _of_pairs(found: object, agents: int) -> Topology:
    upstream: list[list[int]] = [[] for _ in range(agents)]
    if not isinstance(found, Iterable):
        raise ValueError(f"it gives {shown(found)}; allowed: pairs of ids, (read, reader), or a Topology")
    for pair in found:
        ids = isinstance(pair, tuple | list) and len(pair) == 2 and all(type(one) is int for one in pair)
        if not (ids and 1 <= pair[0] < pair[1] <= agents) or pair[0] in upstream[pair[1] - 1]:
            allowed = f"different pairs (read, reader) of ids from 1 to {agents}, the smaller id first"
            raise ValueError(f"it gives the edge {shown(pair)}; allowed: {allowed}")
        upstream[pair[1] - 1].append(pair[0])
    frozen = tuple(map(tuple, upstream))
    return Topology(frozen, feedback(frozen))
