"""examples/own-agents: it plans, it runs to rows on a tiny model, and its page is short.

These tests would catch an example of an earlier version, questions that no grader accepts, and a team that is described
as another one.
"""

import json
import re
import sys
from pathlib import Path

import pytest
from tiny_files import save_folder
from typer.testing import CliRunner

from harness.agents import read_team
from harness.results.sweep_folder import read_records, read_trials
from harness.workloads.own_questions import QuestionsSpec
from sweeps.cli import app

EXAMPLE = Path(__file__).parents[2] / "examples" / "own-agents"
SWEEP = str(EXAMPLE / "sweep.yaml")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """The command starts in an empty folder, without MLflow, whose store takes seconds to make."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "mlflow", None)


def kvcomm(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_it_can_be_planned_from_anywhere():
    text = kvcomm("plan", SWEEP)
    assert "own-agents: 3 trials, 0 done, 3 to run" in text
    drawn = kvcomm("plan", SWEEP, "--topology")
    assert [line.split() for line in drawn.splitlines()[2:]] == [
        ["1", "1", "Planner", "-", "-"],
        ["2", "2", "Researcher", "python", "Planner"],
        ["3", "3", "Critic", "-", "Researcher"],
        ["4", "4", "Writer", "-", "Planner,", "Critic"],
    ]
    document = json.loads(kvcomm("plan", SWEEP, "--json"))
    assert document["topologies"][0]["team"] == read_team(EXAMPLE / "team.yaml").label


@pytest.mark.slow
def test_it_runs_to_rows(tmp_path):
    """A reduced form, on a model of two layers whose answers are noise."""
    save_folder(tmp_path / "model")
    run = ("run", SWEEP, "--in-process", "--limit", 3, "--set", "model=./model", "--set", "rounds=2")
    text = kvcomm(*run, "--allow-unsafe-code")
    assert re.search(r"questions +4 kvcomm", text), text
    rows = read_trials(tmp_path / "results" / "own-agents").to_pylist()
    assert [(row["status"], row["n_samples"], row["agents"], row["topology"]) for row in rows] == [
        ("ok", 3, 4, "team")
    ] * 3
    assert all(row["accuracy"] is not None for row in rows)
    names = [f"{row['trial_id']}-{row['attempt']}" for row in rows]
    turns = read_records(tmp_path / "results" / "own-agents", "turns", names).to_pylist()
    assert len(turns) == 3 * 3 * 2 * 4
    longest = {"Planner": 40, "Researcher": 64, "Critic": 40, "Writer": 24}
    assert all(turn["output_tokens"] <= longest[turn["agent_role"]] for turn in turns)
    assert {turn["tool"] for turn in turns} == {None, "python"}
    assert json.loads(rows[0]["spec_json"])["team"]["roles"][1]["name"] == "Researcher"
    assert "3 done" in kvcomm("plan", *run[1:2], *run[3:])


@pytest.mark.slow
def test_without_grades_nothing_is_wrong(tmp_path):
    """Catches 0 % where nobody graded, in any table or page."""
    save_folder(tmp_path / "model")
    ungraded = f"workload={{name: questions, path: '{EXAMPLE / 'questions.jsonl'}', grader: none, limit: 2}}"
    kvcomm("run", SWEEP, "--in-process", "--set", "model=./model", "--set", ungraded, "--allow-unsafe-code")
    shown = json.loads(kvcomm("show", "results", "--json"))
    assert {row["accuracy"] for row in shown["cells"]} == {None}
    assert {(row["accuracy"], row["unparsable"], row["same_outcome"]) for row in shown["answers"]} == {(None,) * 3}
    assert {row["n_samples"] for row in shown["cells"]} == {2}
    kvcomm("report", "results", "--out", "page.html")
    page = re.sub(r"\s+", " ", Path("page.html").read_text())
    assert "no graded answer has a dense answer to the same item beside it" in page
    compared = json.loads(kvcomm("compare", "results", "results", "--json"))
    assert {(cell["accuracy_a"], cell["accuracy_change"]) for cell in compared["cells"]} == {(None, None)}


def test_its_questions_are_as_the_page_says():
    items = QuestionsSpec(path=str(EXAMPLE / "questions.jsonl"), grader="number").load(seed=0)
    assert len(items) == len({item.question for item in items}) == 20


def test_its_page_is_one_screen():
    text = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 50
    for name in re.findall(r"`([\w-]+\.(?:yaml|jsonl))`", text):
        assert (EXAMPLE / name).is_file(), name
    for name in re.findall(r"`(harness/[\w/.]+)`", text):
        assert (EXAMPLE.parents[1] / name).is_file(), name
