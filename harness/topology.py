"""Topologies: edges over agents with an execution order, which say who reads whom.

Agents 1..n answer in this order; agent n decides, and the others are *workers*. In a round an agent reads the answers
of the agents named below, all of whom have answered before it:

- ``fully_connected`` (KVCOMM, section 5): every earlier agent.
- ``chain``: the agent before it. So the decision agent reads the last worker alone.
- ``star``: worker 1 is the hub, and the other workers read the hub.
- ``layered``: the workers form layers of ``ceil(sqrt(n - 1))``, the last perhaps narrower, and each worker reads the
  whole layer before its own. The decision agent is a layer of its own and reads the last one (as the aggregator of
  Mixture-of-Agents does, arXiv 2406.04692).
- ``debate`` (Du et al., arXiv 2305.14325): workers read nobody in the first round. From the second round on they read
  the last round's answers of all workers.
- ``mesh``: the workers fill a grid row by row, ``ceil(sqrt(n - 1))`` wide, and each reads its neighbors above and to
  the left. This is the two-dimensional mesh of computer networks. Where *mesh* names the graph that links everyone to
  everyone (MacNet, arXiv 2406.07155), that is ``fully_connected`` here.
- ``random``: each earlier worker with probability 1/2, by the trial's seed, and if that leaves nobody, one of them at
  random. A larger team extends the graph of a smaller one with the same seed.
- ``single``: one agent, which reads nobody.

Unless the list says otherwise, the decision agent reads all workers. In one round of two agents, all topologies but
``single`` are alike.

*Several rounds.* From the second round on an agent also reads answers of the round before: its own and those of the
agents that read it, so that a link carries the latest answers in both directions. Two topologies differ. In
``fully_connected`` everybody reads the whole team, including the decision agent. In ``debate`` every worker reads all
workers, but not the decision agent, and so argues with its peers rather than with a verdict.
"""

import math
import random
from dataclasses import dataclass
from typing import Literal, get_args

from kvcomm_core.config import require

TopologyName = Literal["fully_connected", "chain", "star", "layered", "debate", "mesh", "random", "single"]


MAX_AGENTS = 1000
"""Upper limit of agents, far beyond what a model's context holds. It keeps a mistyped number from taking all memory
during planning."""


@dataclass(frozen=True, slots=True)
class Topology:
    """Agents 1..n in execution order; the last one decides."""

    upstream: tuple[tuple[int, ...], ...]
    """``upstream[i]`` are the ids of the agents whose answers agent ``i + 1`` reads, in reading order."""

    remembered: tuple[tuple[int, ...], ...]
    """``remembered[i]`` are the ids of the agents whose answers of the round before agent ``i + 1`` reads."""

    @property
    def agents(self) -> int:
        """Number of agents, the decision agent included."""
        return len(self.upstream)

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


def build_topology(name: TopologyName, agents: int, seed: int) -> Topology:
    """Build the topology ``name`` of ``agents`` agents, including the decision agent; only ``random`` uses the seed.

    Raise ``ValueError`` for an unknown name, or a number of agents that ``check_agents`` refuses.
    """
    check_agents(name, agents)
    upstream = _upstream(name, agents, random.Random(f"topology {seed}"))
    everybody = range(1, agents + 1)
    if name == "fully_connected":
        return Topology(upstream, (tuple(everybody),) * agents)
    if name == "debate":
        workers = tuple(everybody[:-1])
        return Topology(upstream, (workers,) * len(workers) + ((agents,),))
    readers = {agent_id: [reader for reader in everybody if agent_id in upstream[reader - 1]] for agent_id in everybody}
    return Topology(upstream, tuple((agent_id, *readers[agent_id]) for agent_id in everybody))


def check_agents(name: TopologyName, agents: int) -> None:
    """Raise ``ValueError`` for an unknown topology, or one that cannot have so many agents."""
    require(name in get_args(TopologyName), "topology", name, ", ".join(get_args(TopologyName)))
    if name == "single":
        require(agents == 1, "agents", agents, "1, with topology single")
    else:
        require(2 <= agents <= MAX_AGENTS, "agents", agents, f"2 to {MAX_AGENTS}; 1 with topology single")


def _upstream(name: TopologyName, agents: int, rng: random.Random) -> tuple[tuple[int, ...], ...]:
    workers = [_read_by_worker(name, worker, agents - 1, rng) for worker in range(1, agents)]
    first_read = 1
    if name == "chain":
        first_read = agents - 1
    elif name == "layered":
        first_read = (agents - 2) // _side(agents - 1) * _side(agents - 1) + 1
    return (*workers, tuple(range(first_read, agents)))


def _read_by_worker(name: TopologyName, worker: int, workers: int, rng: random.Random) -> tuple[int, ...]:
    """Return the workers that ``worker``, one of 1..``workers``, reads."""
    earlier = range(1, worker)
    if not earlier or name == "debate":
        return ()
    row, column = divmod(worker - 1, _side(workers))
    match name:
        case "chain":
            return (worker - 1,)
        case "star":
            return (1,)
        case "layered":
            return tuple(range((row - 1) * _side(workers) + 1, row * _side(workers) + 1)) if row else ()
        case "mesh":
            above, left = worker - _side(workers), worker - 1
            return (*((above,) if row else ()), *((left,) if column else ()))
        case "random":
            drawn = tuple(other for other in earlier if rng.random() < 0.5)
            return drawn or (rng.choice(earlier),)
        case _:
            return tuple(earlier)


def _side(workers: int) -> int:
    """Return ``ceil(sqrt(workers))``, for at least one worker."""
    return math.isqrt(workers - 1) + 1
