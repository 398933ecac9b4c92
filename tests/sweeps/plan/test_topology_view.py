"""The drawings of `kvcomm plan --topology`."""

import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from harness.agents import Role, Team
from harness.spec import TrialSpec
from harness.topology import Topology, build_topology
from harness.workloads.blend import BlendSpec
from harness.workloads.gsm8k import Gsm8kSpec
from harness.workloads.ttft import TtftSpec
from sweeps.cli import app
from sweeps.language.sweep_spec import SweepSpec
from sweeps.plan.topology_view import print_topologies, topologies_document

DRAWN = """\
star, 4 agents, 2 rounds, gsm8k (2 trials)
level  agent  role                  tool    reads  of the last round
1      1      Math Solver           -       -      1 2 3 4
2      2      Mathematical Analyst  -       1      2 4
2      3      Programming Expert    python  1      3 4
3      4      FinalRefer            -       1 2 3  4

single, 1 agent, 1 round, recall (1 trial)
level  agent  role    tool  reads
1      1      Reader  -     -

fully_connected, 2 agents, 1 round, ttft (1 trial)
level  agent  role  tool  reads
1      1      -     -     -
2      2      -     -     1
"""


def sweep_of(*trials):
    return SweepSpec(name="s", trials=trials)


def printed(sweep, capsys):
    print_topologies(sweep, Console(width=200))
    return "".join(f"{line.rstrip()}\n" for line in capsys.readouterr().out.splitlines())


def test_a_drawing_for_each_team_of_the_sweep(capsys):
    """Catches trials that are drawn twice, agents in another order than they answer, and a role or tool of another."""
    sweep = sweep_of(
        TrialSpec(topology="star", agents=4, rounds=2, workload=Gsm8kSpec()),
        TrialSpec(topology="star", agents=4, rounds=2, workload=Gsm8kSpec(), method="kvcomm"),
        TrialSpec(topology="single", agents=1),
        TrialSpec(agents=2, workload=TtftSpec()),
        TrialSpec(workload=BlendSpec(), method="kvcomm"),
    )
    assert printed(sweep, capsys) == DRAWN


def test_the_seed_is_part_of_a_random_topology_alone(capsys):
    """Catches graphs that differ drawn as one, and one graph drawn for every seed."""
    chains = [TrialSpec(topology="chain", agents=6, seed=seed) for seed in (0, 1)]
    assert printed(sweep_of(*chains), capsys).splitlines()[0] == "chain, 6 agents, 1 round, recall (2 trials)"
    graphs = [TrialSpec(topology="random", agents=6, seed=seed) for seed in (0, 1)]
    text = printed(sweep_of(*graphs), capsys)
    assert text.count("random, 6 agents") == 2
    assert "random, 6 agents, 1 round, seed 1, recall (1 trial)" in text


def test_a_team_of_ones_own_is_drawn_with_its_roles(capsys):
    """Catches ids where each role is one agent, and a team for any topology without its name."""
    prompt = "{user_question}\n{upstream}"
    roles = tuple(Role(name, "S", prompt) for name in ("Plan", "Do", "Check"))
    mine = Team(name="mine", roles=roles, graph=Topology(((), (), (1, 2)), ((), (), (3, 1)), 3))
    free = Team(name="free", roles=roles, alone="Plan")
    trials = [TrialSpec(team=mine, topology="team", rounds=2), TrialSpec(team=free, topology="chain")]
    lines = printed(sweep_of(*trials), capsys).splitlines()
    assert lines[0] == f"team {mine.label}, 3 agents, 2 rounds, recall (1 trial)"
    assert lines[2:5] == [
        "1      1      Plan   -     -         -",
        "1      2      Do     -     -         -",
        "2      3      Check  -     Plan, Do  Check, Plan",
    ]
    assert lines[6] == f"chain, 3 agents, 1 round, recall, team {free.label} (1 trial)"
    assert lines[-1].split() == ["3", "3", "Check", "-", "2"]


def test_blend_has_nobody_to_draw(capsys):
    """Catches an empty page that leaves open whether something went wrong."""
    assert printed(sweep_of(TrialSpec(workload=BlendSpec(), method="kvcomm")), capsys) == (
        "no agents: none of the trials has any take turns\n"
    )


def test_a_drawing_as_data():
    """Catches agents that are read in place of their readers, and a round's answers among those of the last round."""
    trial = TrialSpec(topology="mesh", agents=5, rounds=2)
    (document,) = topologies_document(sweep_of(trial))
    topology = build_topology("mesh", 5, seed=0)
    assert [agent["reads"] for agent in document["agents"]] == [(), (1,), (1,), (2, 3), (1, 2, 3, 4)]
    assert [agent["reads_of_last_round"] for agent in document["agents"]] == [
        topology.remembered_by(agent) for agent in range(1, 6)
    ]
    assert document["trial_ids"] == [trial.trial_id]
    assert (document["topology"], document["rounds"], document["seed"]) == ("mesh", 2, None)


SWEEP = """
name: teams
model: random:smollm2-135m
workload: {name: recall, limit: 2}
grid:
  topology: [chain, debate]
  rounds: [1, 2]
"""


def test_the_command(tmp_path, monkeypatch):
    """Catches an option that is not wired, a page that needs the data of the workload, and JSON with a page in it."""
    monkeypatch.chdir(tmp_path)
    Path("sweep.yaml").write_text(SWEEP)
    done = CliRunner().invoke(app, ["plan", "sweep.yaml", "--topology", "--set", "workload={name: gsm8k}"])
    assert done.exit_code == 0, done.output
    titles = [line for line in done.stdout.splitlines() if "agents, " in line]
    assert titles == [
        "chain, 3 agents, 1 round, gsm8k (1 trial)",
        "chain, 3 agents, 2 rounds, gsm8k (1 trial)",
        "debate, 3 agents, 1 round, gsm8k (1 trial)",
        "debate, 3 agents, 2 rounds, gsm8k (1 trial)",
    ]
    for options in (["--json"], ["--topology", "--json"]):
        document = json.loads(CliRunner().invoke(app, ["plan", "sweep.yaml", *options]).stdout)
        assert [drawing["topology"] for drawing in document["topologies"]] == ["chain", "chain", "debate", "debate"]
        assert [agent["reads"] for agent in document["topologies"][0]["agents"]] == [[], [1], [2]]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("topology=ring", "topology is 'ring'; allowed: fully_connected, chain"),
        ("topology=single", "agents is 3; allowed: 1, with topology single"),
        ("workload={name: ttft}", "topology is 'chain'; allowed: fully_connected, with workload ttft"),
    ],
)
def test_a_topology_that_cannot_be(tmp_path, monkeypatch, override, message):
    """Catches a team of another size than asked for, a timing that ignores its topology, and a traceback."""
    monkeypatch.chdir(tmp_path)
    Path("sweep.yaml").write_text("name: teams\ntopology: chain\n")
    for options in ([], ["--topology"]):
        done = CliRunner().invoke(app, ["plan", "sweep.yaml", "--set", override, *options])
        assert (done.exit_code, done.stdout) == (2, "")
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
