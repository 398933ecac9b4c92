"""Who reads whom: a topology is edges over agents with an execution order."""

from dataclasses import dataclass
from typing import Literal

from kvcomm_core.config import require

TopologyName = Literal["fully_connected"]


@dataclass(frozen=True, slots=True)
class Topology:
    """Agents 1..n in execution order; the last one decides."""

    upstream: tuple[tuple[int, ...], ...]
    """``upstream[i]`` are the ids of the agents whose answers agent ``i + 1`` reads, in reading order."""

    @property
    def agents(self) -> int:
        """Number of agents, the decision agent included."""
        return len(self.upstream)

    def read_by(self, agent_id: int) -> tuple[int, ...]:
        """The agents that ``agent_id`` (1-based) reads."""
        require(1 <= agent_id <= self.agents, "agent_id", agent_id, f"1 to {self.agents}")
        return self.upstream[agent_id - 1]

    def remembered_by(self, agent_id: int) -> tuple[int, ...]:
        """The agents whose answers of the round before ``agent_id`` (1-based) reads: the whole team in order, itself
        and the decision agent included. By the edges alone, the first agent would learn nothing from a round."""
        require(1 <= agent_id <= self.agents, "agent_id", agent_id, f"1 to {self.agents}")
        return tuple(range(1, self.agents + 1))


def build_topology(name: TopologyName, agents: int) -> Topology:
    """``fully_connected`` (paper, section 5): agent i reads the answers of agents 1..i-1."""
    require(name == "fully_connected", "topology", name, "fully_connected")
    require(agents >= 1, "agents", agents, "1 or more")
    return Topology(tuple(tuple(range(1, agent_id)) for agent_id in range(1, agents + 1)))
