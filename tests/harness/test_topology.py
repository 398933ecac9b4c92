"""Who reads whom."""

from importlib import metadata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import extensions
from harness.spec import TrialSpec
from harness.topology import BUILT_IN, Topology, build_topology, depends_on_seed

NAMES = tuple(BUILT_IN)
TEAMS = [name for name in NAMES if name != "single"]
SEEDS = st.integers(0, 1000)

# Worked out by hand from the definitions: who reads whom within a round, who of the last round, and the levels.
BY_HAND: dict[tuple[str, int], tuple[object, object, object]] = {
    ("fully_connected", 4): (
        ((), (1,), (1, 2), (1, 2, 3)),
        ((1, 2, 3, 4),) * 4,
        ((1,), (2,), (3,), (4,)),
    ),
    ("chain", 4): (
        ((), (1,), (2,), (3,)),
        ((1, 2), (2, 3), (3, 4), (4,)),
        ((1,), (2,), (3,), (4,)),
    ),
    ("star", 5): (
        ((), (1,), (1,), (1,), (1, 2, 3, 4)),
        ((1, 2, 3, 4, 5), (2, 5), (3, 5), (4, 5), (5,)),
        ((1,), (2, 3, 4), (5,)),
    ),
    ("layered", 5): (
        ((), (), (1, 2), (1, 2), (3, 4)),
        ((1, 3, 4), (2, 3, 4), (3, 5), (4, 5), (5,)),
        ((1, 2), (3, 4), (5,)),
    ),
    ("layered", 6): (
        ((), (), (), (1, 2, 3), (1, 2, 3), (4, 5)),
        ((1, 4, 5), (2, 4, 5), (3, 4, 5), (4, 6), (5, 6), (6,)),
        ((1, 2, 3), (4, 5), (6,)),
    ),
    ("debate", 4): (
        ((), (), (), (1, 2, 3)),
        ((1, 2, 3), (1, 2, 3), (1, 2, 3), (4,)),
        ((1, 2, 3), (4,)),
    ),
    # 1 2 3
    # 4 5
    ("mesh", 6): (
        ((), (1,), (2,), (1,), (2, 4), (1, 2, 3, 4, 5)),
        ((1, 2, 4, 6), (2, 3, 5, 6), (3, 6), (4, 5, 6), (5, 6), (6,)),
        ((1,), (2, 4), (3, 5), (6,)),
    ),
    ("single", 1): (((),), ((1,),), ((1,),)),
}


@pytest.mark.parametrize(("name", "agents"), BY_HAND)
def test_as_worked_out_by_hand(name: str, agents: int) -> None:
    """Catches ids that start at 0, a reversed reading order, a grid or a layer of another width, and a decision agent
    that reads whom it should not."""
    topology = build_topology(name, agents, seed=3)
    upstream, remembered, levels = BY_HAND[name, agents]
    assert (topology.upstream, topology.remembered, topology.levels()) == (upstream, remembered, levels)
    assert topology.agents == agents


@pytest.mark.parametrize("name", TEAMS)
def test_two_agents_are_a_worker_and_the_one_that_decides(name: str) -> None:
    """Catches the smallest team falling out of a definition: a grid of no width, a layer before the first."""
    topology = build_topology(name, 2, seed=0)
    assert topology.upstream == ((), (1,))
    assert topology.levels() == ((1,), (2,))


@given(st.sampled_from(TEAMS), st.integers(2, 30), SEEDS)
def test_order_of_execution(name: str, agents: int, seed: int) -> None:
    """Catches an answer read before it exists, read twice, or read by its own author; that no edge leads backwards
    also makes a round acyclic."""
    topology = build_topology(name, agents, seed)
    assert topology.agents == len(topology.upstream) == len(topology.remembered) == agents
    for agent_id in range(1, agents + 1):
        read = topology.read_by(agent_id)
        assert list(read) == sorted(set(read))
        assert all(1 <= other < agent_id for other in read)


@given(st.sampled_from(TEAMS), st.integers(2, 30), SEEDS)
def test_every_answer_has_its_say(name: str, agents: int, seed: int) -> None:
    """Catches a worker whose answer reaches the decision agent on no path, or a decision that somebody reads."""
    topology = build_topology(name, agents, seed)
    reached, todo = set(), [agents]
    while todo:
        agent_id = todo.pop()
        if agent_id not in reached:
            reached.add(agent_id)
            todo += topology.read_by(agent_id)
    assert reached == set(range(1, agents + 1))
    assert not any(agents in topology.read_by(agent_id) for agent_id in range(1, agents + 1))


@given(st.sampled_from(NAMES), st.integers(2, 30), SEEDS)
def test_levels_are_a_schedule(name: str, agents: int, seed: int) -> None:
    """Catches an agent that is in no level or in two, in a level with one that it reads, or later than it need be."""
    topology = build_topology(name, 1 if name == "single" else agents, seed)
    levels = topology.levels()
    assert sorted(agent_id for level in levels for agent_id in level) == list(range(1, topology.agents + 1))
    assert levels[-1] == (topology.agents,)
    level_of = {agent_id: index for index, level in enumerate(levels) for agent_id in level}
    for agent_id, own in level_of.items():
        assert own == max((level_of[other] + 1 for other in topology.read_by(agent_id)), default=0)


@given(st.sampled_from(NAMES), st.integers(2, 30), SEEDS)
def test_every_agent_knows_something_of_the_last_round(name: str, agents: int, seed: int) -> None:
    """Catches an agent that forgets what it said, or that has nothing new to read in a later round."""
    topology = build_topology(name, 1 if name == "single" else agents, seed)
    for agent_id in range(1, topology.agents + 1):
        remembered = topology.remembered_by(agent_id)
        assert agent_id in remembered
        assert list(remembered) == sorted(set(remembered))
        assert set(remembered) <= set(range(1, topology.agents + 1))
        if name != "single" and (name, agents) != ("debate", 2):  # nobody but the decision agent is there to read
            assert set(remembered) | set(topology.read_by(agent_id)) > {agent_id}


@given(st.integers(2, 30), SEEDS)
def test_random_is_drawn_from_the_seed(agents: int, seed: int) -> None:
    """Catches a graph that is another one on a resumed sweep, a worker with nobody to read, and a larger team that
    differs from a smaller one in more than its size."""
    topology = build_topology("random", agents, seed)
    assert topology == build_topology("random", agents, seed)
    assert all(topology.read_by(worker) for worker in range(2, agents))
    assert build_topology("random", agents + 3, seed).upstream[: agents - 1] == topology.upstream[:-1]


def test_random_graphs_differ_and_have_about_half_of_the_edges() -> None:
    """Catches a seed that is not used, and a probability other than 1/2. The expected share is that of the
    definition: a worker with m earlier ones reads m/2 of them, and 1 more in 1 of 2**m graphs."""
    agents, graphs = 8, [build_topology("random", 8, seed) for seed in range(400)]
    assert len(set(graphs)) > 390
    edges = sum(len(graph.read_by(worker)) for graph in graphs for worker in range(2, agents)) / len(graphs)
    expected = sum(earlier / 2 + 2.0**-earlier for earlier in range(1, agents - 1))
    # One graph has 21 possible edges, so the mean over 400 has a standard deviation of at most 0.12.
    assert edges == pytest.approx(expected, abs=0.5)


@given(st.sampled_from(NAMES), SEEDS, SEEDS)
def test_all_others_do_without_a_seed(name: str, one: int, other: int) -> None:
    """Catches trials of different seeds that silently differ in more than their items."""
    agents = 1 if name == "single" else 7
    if name != "random":
        assert build_topology(name, agents, one) == build_topology(name, agents, other)


@pytest.mark.parametrize("agent_id", [0, -1, 4])
def test_asking_for_an_agent_that_is_not_there_is_an_error(agent_id: int) -> None:
    """Catches Python's negative indices: agent 0 would silently be the last agent."""
    topology = build_topology("fully_connected", 3, seed=0)
    for ask in (topology.read_by, topology.remembered_by):
        with pytest.raises(ValueError, match=f"agent_id is {agent_id}; allowed: 1 to 3"):
            ask(agent_id)


def test_bad_input_names_value_and_what_is_allowed() -> None:
    """Catches an unknown topology that falls back to another, an empty team, and a single agent that is not alone."""
    with pytest.raises(ValueError, match=r"topology is 'ring'; allowed: fully_connected, chain, star"):
        build_topology("ring", 3, seed=0)
    for name in TEAMS:
        for agents in (0, 1):
            with pytest.raises(ValueError, match=f"agents is {agents}; allowed: 2 to 1000; 1 with topology single"):
                build_topology(name, agents, seed=0)
    with pytest.raises(ValueError, match="agents is 2; allowed: 1, with topology single"):
        build_topology("single", 2, seed=0)


def test_levels_by_the_longest_path() -> None:
    """Catches levels by the shortest path, which would put agent 4 beside agent 3, which it reads."""
    topology = Topology(upstream=((), (1,), (2,), (1, 3)), remembered=((1,), (2,), (3,), (4,)))
    assert topology.levels() == ((1,), (2,), (3,), (4,))


def test_a_topology_from_elsewhere() -> None:
    """Catches edges that are not those of the function, a seed that it does not get, and feedback that is left out."""
    topology = build_topology("own_plug_ins:ring_of_pairs", 4, seed=0)
    assert topology == Topology(((), (1,), (1,), (1,)), ((1, 2, 3, 4), (2,), (3,), (4,)))
    assert build_topology("own_plug_ins:ring_of_pairs", 4, seed=1).upstream == ((), (1,), (1, 2), (1,))
    assert build_topology("own_plug_ins:first_decides", 2, seed=0).decision_agent == 1
    assert [depends_on_seed(name) for name in ("random", "chain", "team", "own_plug_ins:fails")] == [
        True,
        False,
        False,
        True,
    ]


def test_a_topology_from_elsewhere_is_in_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches results of one version of a plug-in taken for those of another."""
    spec = TrialSpec(topology="own_plug_ins:ring_of_pairs")
    first = spec.trial_id
    assert first != TrialSpec().trial_id
    monkeypatch.setattr("harness.identity.topology_version", lambda _: "mine 2.0")
    assert spec.trial_id != first


def test_an_installed_package_may_announce_a_topology(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an entry point that is not asked, and one that takes a built-in's name."""
    path = "own_plug_ins:ring_of_pairs"
    points = [metadata.EntryPoint(name, path, "kvcomm.topologies") for name in ("announced", "chain")]
    monkeypatch.setattr(metadata, "entry_points", lambda **_: points)
    extensions.announced.cache_clear()
    try:
        assert build_topology("announced", 3, 0) == build_topology(path, 3, 0)
        assert build_topology("chain", 3, 0).upstream == ((), (1,), (2,))
        with pytest.raises(ValueError, match="single, announced, or module:function"):
            build_topology("nothing", 3, 0)
    finally:
        extensions.announced.cache_clear()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "upwards",
            r"for 3 agents and seed 0 fails: it gives the edge \(2, 1\); allowed: different pairs \(read, reader\)",
        ),
        ("twice", r"it gives the edge \(1, 2\); allowed: different pairs"),
        ("beyond", r"it gives the edge \(1, 4\); allowed: .* of ids from 1 to 3"),
        ("too_many", "has 4 agents; allowed: 3"),
        ("fails", "fails: by zero"),
        ("nothing", "it gives None; allowed: pairs of ids"),
        ("NO_FUNCTION", "allowed: a function"),
        ("missing", "it cannot be imported"),
    ],
)
def test_edges_that_cannot_be(name: str, message: str) -> None:
    """Catches a cycle, an agent that is not there, and the traceback of a plug-in; a trial finds out before it runs."""
    for ask in (lambda topology: build_topology(topology, 3, 0), lambda topology: TrialSpec(topology=topology)):
        with pytest.raises(ValueError, match=message) as refused:
            ask(f"own_plug_ins:{name}")
        assert f"topology is 'own_plug_ins:{name}'" in str(refused.value)
