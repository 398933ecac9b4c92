"""Who reads whom."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.topology import build_topology


def test_fully_connected_of_four_agents() -> None:
    """Catches ids that start at 0, an agent that reads itself, and a reversed reading order."""
    topology = build_topology("fully_connected", 4)
    assert topology.upstream == ((), (1,), (1, 2), (1, 2, 3))
    assert topology.agents == 4
    assert [topology.read_by(agent_id) for agent_id in (1, 2, 3, 4)] == [(), (1,), (1, 2), (1, 2, 3)]


@given(st.integers(2, 40))
def test_every_agent_reads_only_finished_ones_and_the_last_reads_all(agents: int) -> None:
    """Catches an execution order in which an answer is read before it exists."""
    topology = build_topology("fully_connected", agents)
    assert topology.agents == agents
    for agent_id in range(1, agents + 1):
        assert all(1 <= upstream < agent_id for upstream in topology.read_by(agent_id))
        assert topology.remembered_by(agent_id) == tuple(range(1, agents + 1))
    assert set(topology.read_by(agents)) == set(range(1, agents))


@pytest.mark.parametrize("agent_id", [0, -1, 4])
def test_asking_for_an_agent_that_is_not_there_is_an_error(agent_id: int) -> None:
    """Catches Python's negative indices: agent 0 would silently be the last agent."""
    with pytest.raises(ValueError, match=f"agent_id is {agent_id}; allowed: 1 to 3"):
        build_topology("fully_connected", 3).read_by(agent_id)


def test_bad_input_names_value_and_what_is_allowed() -> None:
    """Catches an unknown topology that falls back to another, and an empty one."""
    with pytest.raises(ValueError, match=r"topology is 'ring'; allowed: fully_connected"):
        build_topology("ring", 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"agents is 0; allowed: 1 or more"):
        build_topology("fully_connected", 0)
