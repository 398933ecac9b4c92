"""A trial whose team has edges of its own, on a tiny model: who reads what, how long answers are, what is graded."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import tiny_chat_model

from harness.agents import Role, Team
from harness.results.trial_result import TrialResult
from harness.spec import TrialSpec
from harness.topology import Topology, feedback
from harness.trials.runner import run_trial
from harness.workloads.own_questions import QuestionsSpec
from harness.workloads.recall import RecallSpec
from kvcomm_core.config import KVCommConfig
from kvcomm_core.models.loading import LoadedModel

UPSTREAM = ((), (1,), (), (1, 3))
PROMPT = "{user_question}\n\n{upstream}\n\nend"
TEAM = Team(
    name="made up",
    roles=(
        Role("One", "S", PROMPT, max_new_tokens=3),
        Role("Two", "S", PROMPT),
        Role("Three", "S", PROMPT, max_new_tokens=9),
        Role("Four", "S", "{user_question}\n\nThree said:\n{agent:Three}\n\n{upstream}\n\nend"),
    ),
    graph=Topology(UPSTREAM, feedback(UPSTREAM), 2),
)
SPEC = TrialSpec(
    team=TEAM, topology="team", agents=4, rounds=2, max_new_tokens=5, workload=RecallSpec(limit=4), method="kvcomm",
    parameters=KVCommConfig(criterion="always"), fidelity=1.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return replace(tiny_chat_model(), eos_ids=frozenset([-1]))  # every answer has its full length


@pytest.fixture(scope="module")
def result(model: LoadedModel) -> TrialResult:
    found = run_trial(SPEC, model)
    assert found.trial.error is None
    return found


def test_agents_read_what_the_edges_say(result: TrialResult) -> None:
    """Catches edges that are drawn but not wired into the prompts, and an answer placed by name that stands twice."""
    for turn in result.turns:
        listed = {int(agent) for agent in re.findall(r"^\w+ \(agent (\d)\):$", turn.prompt_text, re.MULTILINE)}
        last = {int(agent) for agent in re.findall(r"^In the last .+ \(agent (\d)\) ", turn.prompt_text, re.MULTILINE)}
        placed = {3} if turn.agent_role == "Four" else set()
        assert listed == set(UPSTREAM[turn.agent_index - 1]) - placed
        assert ("Three said:" in turn.prompt_text) == bool(placed)
        assert last == (set(TEAM.graph.remembered_by(turn.agent_index)) if turn.round else set())
    assert [turn.agent_role for turn in result.turns[:4]] == ["One", "Two", "Three", "Four"]
    assert {turn.mode for turn in result.turns} == {"dense", "reuse"}, "the placed answer must meet reuse, too"


def test_a_role_has_its_own_length(result: TrialResult) -> None:
    """Catches the trial's length for every role, and a check against dense that compares answers of other lengths."""
    assert {(t.agent_role, t.output_tokens) for t in result.turns} == {
        ("One", 3),
        ("Two", 5),
        ("Three", 9),
        ("Four", 5),
    }
    checked = [turn for turn in result.turns if turn.greedy_agreement is not None and turn.first_divergence is None]
    assert all(turn.greedy_agreement == 1 for turn in checked)


def test_the_decider_is_graded_wherever_it_stands(result: TrialResult) -> None:
    """Catches the last agent's answer, or that of the first round, graded as the team's."""
    for sample in result.samples:
        turns = [turn for turn in result.turns if turn.sample_index == sample.sample_index]
        (decided,) = [turn for turn in turns if (turn.round, turn.agent_index) == (1, 2)]
        assert (sample.answer_text, sample.outcome) == (decided.output_text, decided.outcome)
        assert sample.answer_text != turns[-1].output_text


def test_the_plan_counts_the_lengths_of_the_roles() -> None:
    """Catches prompts counted as if every answer in them had the length of the reader's own."""
    spec = replace(SPEC, rounds=1, method="dense", parameters=replace(TrialSpec().parameters), fidelity=0.0)
    turns = spec.workload.work(spec, spec.workload.load(0)).turns
    assert [(turn.output_tokens, turn.answers_read, turn.read_tokens) for turn in turns] == [
        (3, 0, None),
        (5, 1, 3),
        (9, 0, None),
        (5, 2, 6),
    ]


def test_ungraded_questions_have_no_accuracy(model: LoadedModel, tmp_path: Path) -> None:
    """Catches an accuracy of 0 for answers that nobody graded."""
    (tmp_path / "q.jsonl").write_text("".join(json.dumps({"question": f"Why {n}?"}) + "\n" for n in range(3)))
    workload = QuestionsSpec(path=str(tmp_path / "q.jsonl"), grader="none")
    found = run_trial(replace(SPEC, workload=workload, rounds=1), model)
    assert found.trial.error is None
    assert (found.trial.n_samples, found.trial.n_correct, found.trial.accuracy) == (3, None, None)
    assert {sample.outcome for sample in found.samples} == {turn.outcome for turn in found.turns} == {None}
    assert {sample.grade_rule for sample in found.samples} == {"ungraded"}
