"""Teams in sweep files: where their files lie, what they fix, and mistakes."""

import os
from pathlib import Path

import pytest

from harness.agents import built_in_teams
from sweeps.language.strict_yaml import SweepError
from sweeps.language.sweep_spec import load_sweep

PROMPT = "[system]\nS\n[user]\n{user_question}\n\n{upstream}\n\nend\n"
TEAM = "roles: [{name: One, prompt: one.txt}, {name: Two, prompt: one.txt}, {name: Three, prompt: one.txt}]\n"
EDGES = "reads: {Two: [One]}\n"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """The current folder is empty but for ``mine``, which holds a team with edges and one without."""
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    Path("mine/one.txt").write_text(PROMPT)
    Path("mine/edges.yaml").write_text(TEAM + EDGES)
    Path("mine/free.yaml").write_text(TEAM)
    Path("mine/q.jsonl").write_text('{"question": "Why?"}\n')


def sweep(text, path="mine/sweep.yaml", **options):
    Path(path).write_text(f"name: x\n{text}\n")
    return load_sweep(Path(path), **options)


def test_a_team_with_edges_says_how_many_agents_there_are():
    """Catches a trial that runs another number of agents, and one whose number has to be written down twice."""
    (trial,) = sweep("team: edges.yaml").trials
    assert (trial.agents, trial.topology) == (3, "team")
    assert [role.name for role in trial.roles] == ["One", "Two", "Three"]
    assert trial.graph.upstream == ((), (1,), ())
    assert sweep("team: edges.yaml\nagents: 3\ntopology: team").trials == (trial,)


def test_a_team_without_edges_takes_any_topology():
    """Catches roles that are not taken in order."""
    trials = sweep("team: free.yaml\ntopology: chain\ngrid: {agents: [2, 4]}").trials
    assert [[role.name for role in trial.roles] for trial in trials] == [
        ["One", "Three"],
        ["One", "Two", "One", "Three"],
    ]
    assert [trial.graph.upstream for trial in trials] == [((), (1,)), ((), (1,), (2,), (3,))]


def test_teams_on_an_axis():
    """Catches a team that fixes the agents of the others, an own team that is lost beside one from a file, and rules
    that do not see what a team fixes."""
    trials = sweep("grid: {team: [null, edges.yaml, gsm8k]}\nagents: 3").trials
    assert [(trial.team and trial.team.name, trial.topology) for trial in trials] == [
        (None, "fully_connected"),
        ("edges", "team"),
        ("gsm8k", "fully_connected"),
    ]
    assert trials[2].team == built_in_teams()["gsm8k"]
    kept = sweep("grid: {team: [free.yaml, edges.yaml]}\nexclude: [{topology: team, agents: 3}]").trials
    assert [trial.team.name for trial in kept] == ["free"]


def test_paths_are_relative_to_the_sweep_file_or_to_here():
    """Catches an example that runs from one folder only, a copy of the sweep that means another file, and a path in
    the identity that changes with the folder of the sweep file."""
    text = "team: edges.yaml\nworkload: {name: questions, path: q.jsonl, grader: none}"
    found = sweep(text)
    assert found.trials[0].workload.path == os.path.join("mine", "q.jsonl")  # noqa: PTH118 - what the text says
    assert set(found.files) == {"mine/edges.yaml", "mine/one.txt"}
    Path("copy.yaml").write_text(found.text)
    assert load_sweep(Path("copy.yaml")).trials == found.trials
    again = sweep(text.replace("edges.yaml", "mine/edges.yaml").replace("q.jsonl", "mine/q.jsonl"))
    assert again.trials == found.trials
    axis = sweep(
        "grid: {team: [edges.yaml, free.yaml]}\nworkload: {name: questions, grader: none}\nworkload.path: q.jsonl"
    )
    assert {trial.workload.path for trial in axis.trials} == {"mine/q.jsonl"}
    Path("q.jsonl").write_text('{"question": "Who?"}\n')
    assert sweep(text).trials[0].workload.path == "q.jsonl", "a path that is right as it stands stays"
    Path("edges.yaml").write_text("no team")
    assert sweep(text).trials[0].team == found.trials[0].team, "a team lies beside the sweep file first"
    assert sweep("agents: 2", overrides=["team=mine/free.yaml"]).trials[0].team.name == "free"


def test_a_base_file_has_its_own_folder():
    """Catches a team that is looked for beside the extending file."""
    Path("base.yaml").write_text("name: base\nteam: mine/edges.yaml\n")
    Path("mine/sweep.yaml").write_text("name: x\nextends: ../base.yaml\nseed: 1\n")
    assert load_sweep(Path("mine/sweep.yaml")).trials[0].team.name == "edges"


def test_an_edited_prompt_makes_new_trials():
    """Catches results of the old prompt taken for those of the new one."""
    before = sweep("team: edges.yaml").trials[0].trial_id
    assert sweep("team: edges.yaml").trials[0].trial_id == before
    Path("mine/one.txt").write_text(PROMPT.replace("end", "the end"))
    assert sweep("team: edges.yaml").trials[0].trial_id != before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("team: none.yaml", "team: none.yaml: cannot be read (No such file or directory); allowed: a team file"),
        ("team: 3", "team is 3; allowed: the path of a team file, humaneval, judge, aime, gsm8k, math500, mmlu"),
        ("team: ''", "team is ''; allowed: the path of a team file"),
        (
            "team: edges.yaml\nagents: 4",
            "agents is 4; allowed: 3, the number of roles of the team edges, which has edges",
        ),
        ("team: edges.yaml\nagents: '3'", "agents is '3'; allowed: 3, the number of roles of the team edges"),
        (
            "team: edges.yaml\ntopology: chain",
            "topology is 'chain'; allowed: team, since the team edges has edges of its",
        ),
        ("topology: team", "topology is 'team'; allowed: fully_connected, chain"),
        ("team: edges.yaml\nworkload: ttft", "team is given with workload ttft alone, which has no use for it"),
        ("workload: {name: questions, path: q.jsonl, grader: none}", "team is None; allowed: the path of a team file"),
        ("workload: {name: questions, path: q.jsonl}", "workload.grader is missing"),
        ("workload: {name: questions, grader: none}", "workload.path is missing"),
        ("workload: {name: questions, path: q.jsonl, grader: x}", "workload.grader is 'x'; allowed: exact, contains"),
        ("topology: 'mod:missing'", "topology is 'mod:missing'; it cannot be imported"),
    ],
)
def test_a_mistake_is_one_line(text, message):
    """Catches a traceback, and a team that silently does not count."""
    with pytest.raises(SweepError) as refused:
        sweep(text)
    assert message in str(refused.value)
    assert str(refused.value).startswith("mine/sweep.yaml: ")
    assert len(str(refused.value).splitlines()) == 1


def test_a_team_has_no_use_for_some_of_the_workloads():
    """Catches a timing that a team stops, where the sweep also has questions."""
    trials = sweep("team: edges.yaml\ngrid: {workload: [recall, ttft]}").trials
    assert [(trial.workload.name, trial.team is not None, trial.agents) for trial in trials] == [
        ("recall", True, 3),
        ("ttft", False, 3),
    ]
