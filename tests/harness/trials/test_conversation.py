"""Items through agents with tools, and the grade of every answer, on a tiny model whose answers the test writes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import tiny_chat_model

from harness.results.trial_result import TrialResult, TurnRecord
from harness.spec import TrialSpec
from harness.tools.sandbox.jail.layers import UnsafeSandboxError
from harness.tools.sandbox.python_sandbox import active_layers
from harness.trials import conversation
from harness.trials.runner import run_trial
from harness.workloads.gsm8k import Gsm8kSpec
from harness.workloads.humaneval import HumanEvalSpec
from harness.workloads.mmlu import MmluSpec
from kvcomm_core.config import KVCommConfig
from kvcomm_core.models.loading import LoadedModel

TASK = {
    "task_id": "Test/0",
    "prompt": 'def double(x):\n    """Twice x.\n    >>> double(2)\n    4\n    """\n',
    "entry_point": "double",
    "canonical_solution": "    return 2 * x\n",
    "test": "def check(candidate):\n    assert candidate(3) == 6\n",
}
RIGHT = "```python\ndef double(x):\n    return 2 * x\n```"
WRONG = "```python\ndef double(x):\n    return x * x\n```"  # the example in the prompt does not tell


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return tiny_chat_model()


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, model: LoadedModel) -> Callable[..., None]:
    """``say(first, second, ...)``: what the agents answer in turn, over and over, whatever the model would."""

    def say(*answers: str) -> None:
        said = iter(answers * 100)

        def decode(batch, first_ids, max_new_tokens):
            text = next(said)
            ids = tuple(model.tokenizer(text, add_special_tokens=False).input_ids)
            return batch.follow([ids for _ in first_ids], needs_kv=True)

        monkeypatch.setattr("kvcomm_core.batch.Batch.decode", decode)

    return say


def run(spec: TrialSpec, model: LoadedModel, **options: object) -> TrialResult:
    result = run_trial(spec, model, **options)
    assert result.trial.error is None
    return result


def write(path: Path, *rows: dict[str, object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def by_agent(result: TrialResult) -> dict[int, TurnRecord]:
    return {turn.agent_index: turn for turn in result.turns}


def test_code_is_run_and_its_readers_read_the_result(model, say, tmp_path) -> None:
    """The Programming Expert of gsm8k. Would catch a result that is not read, is read by the expert itself or under
    another agent, and grades or tools of other turns."""
    path = write(tmp_path / "g.jsonl", {"question": "Six times seven?", "answer": "#### 42"})
    say("The answer is 41", "no number", "```python\nprint(6 * 7)\n```", "The answer is 42")
    spec = TrialSpec(workload=Gsm8kSpec(path=path), agents=4, max_new_tokens=200)
    result = run(spec, model)
    turns = by_agent(result)
    assert {agent: turn.tool for agent, turn in turns.items()} == {1: None, 2: None, 3: "python", 4: None}
    expert = turns[3]
    assert (expert.tool_outcome, expert.tool_text) == ("ok", "42")
    assert expert.tool_s is not None
    assert "returned:\n42\n" not in expert.prompt_text
    assert "The tool of Programming Expert (agent 3) returned:\n42\n" in turns[4].prompt_text
    graded = [(turns[agent].outcome, turns[agent].extracted) for agent in (1, 2, 4)]
    assert graded == [("wrong", "41"), ("unparsable", None), ("correct", "42")]
    [sample] = result.samples
    assert (sample.outcome, sample.extracted, sample.grade_rule) == ("correct", "42", turns[4].grade_rule)
    assert result.trial.sandbox_layers == " ".join(active_layers())


@pytest.mark.slow
def test_tools_in_reuse_turns_and_rounds(model, say, tmp_path) -> None:
    """The same with kvcomm, a batch of two and two rounds. Would catch a tool result whose KV is not to be had, one
    that goes to the other item, and one filled twice."""
    rows = [{"question": f"What is {n} + {n}?", "answer": f"#### {2 * n}"} for n in range(1, 7)]
    path = write(tmp_path / "g.jsonl", *rows)
    say("The answer is 2", "The answer is 4", "```python\nprint(6)\n```", "The answer is 8")
    spec = TrialSpec(
        workload=Gsm8kSpec(path=path),
        agents=4,
        rounds=2,
        batch_size=2,
        max_new_tokens=200,
        method="kvcomm",
        parameters=KVCommConfig(gamma=1.0),
    )
    result = run(spec, model)
    assert [s.outcome for s in result.samples] == ["wrong"] * 3 + ["correct"] + ["wrong"] * 2
    experts = [turn for turn in result.turns if turn.agent_index == 3]
    assert {(turn.tool, turn.tool_text) for turn in experts} == {("python", "6")}
    assert {turn.mode for turn in result.turns if turn.agent_index == 4} == {"dense", "reuse"}


def test_candidates_meet_the_examples_and_the_hidden_tests_only_at_the_grade(model, say, tmp_path) -> None:
    """Would catch hidden tests that leak into feedback, and a grade by the examples of the prompt."""
    path = write(tmp_path / "h.jsonl", TASK)
    say("Plan it.", "Double it.", WRONG, RIGHT)
    result = run(TrialSpec(workload=HumanEvalSpec(path=path), agents=4, max_new_tokens=200), model)
    turns = by_agent(result)
    expert = turns[3]
    assert (expert.tool, expert.tool_outcome) == ("doctest", "passed")
    assert f"returned:\n{expert.tool_text}\n" in turns[4].prompt_text
    assert [turns[agent].outcome for agent in (1, 2, 3, 4)] == ["unparsable", "unparsable", "wrong", "correct"]
    assert all("candidate(3)" not in turn.prompt_text for turn in turns.values())
    assert result.samples[0].outcome == "correct"


def test_look_ups_are_off_by_default(model, say, tmp_path, monkeypatch) -> None:
    """Would catch a request nobody asked for, and a Wiki Searcher without the fallback."""
    monkeypatch.setattr(conversation.Wiki, "summary", lambda wiki, entity: f"{entity} is large.")
    monkeypatch.setattr(conversation, "WIKI_CACHE", tmp_path / "cache")
    row = {"question": "Largest?", "subject": "astronomy", "choices": ["Mars", "Jupiter", "Io", "Rhea"], "answer": 1}
    path = write(tmp_path / "m.jsonl", row)
    say("@Jupiter@ The answer is B", "The answer is B", "The answer is A")
    spec = TrialSpec(workload=MmluSpec(path=path), agents=3, max_new_tokens=200)
    off = by_agent(run(spec, model))
    assert off[1].tool_outcome == "off"
    assert "returned:\nNo entry was found" in off[2].prompt_text
    on = by_agent(run(replace(spec, workload=MmluSpec(path=path, lookup="wikipedia")), model))
    assert on[1].tool_outcome == "found"
    assert "returned:\nJupiter: Jupiter is large.\n" in on[2].prompt_text
    assert [turn.outcome for turn in on.values()] == ["correct", "correct", "wrong"]


def test_a_tool_that_nobody_reads_is_not_called(model, say, tmp_path) -> None:
    """Would catch a sandbox started for nothing, and a placeholder that no template has."""
    path = write(tmp_path / "h.jsonl", TASK)
    say(RIGHT)
    spec = TrialSpec(workload=HumanEvalSpec(path=path), topology="single", agents=1, max_new_tokens=200)
    result = run(spec, model)
    [turn] = result.turns
    assert (turn.agent_role, turn.tool, turn.tool_text, turn.outcome) == ("Programming Expert", None, None, "correct")


def test_without_a_sandbox_the_trial_is_refused(model, say, tmp_path, monkeypatch) -> None:
    """Would catch code that runs unconfined without the user's word, and a word that does not arrive."""
    asked = []

    def require_safe(allow_unsafe: bool) -> None:
        asked.append(allow_unsafe)
        if not allow_unsafe:
            raise UnsafeSandboxError("this machine cannot confine code")

    monkeypatch.setattr(conversation, "require_safe", require_safe)
    say(RIGHT)
    spec = TrialSpec(workload=HumanEvalSpec(path=write(tmp_path / "h.jsonl", TASK)), agents=2, max_new_tokens=200)
    refused = run_trial(spec, model)
    assert refused.trial.status == "error"
    assert "this machine cannot confine code" in refused.trial.error
    assert run(spec, model, allow_unsafe_code=True).samples[0].outcome == "correct"
    assert asked == [False, True]
    recall = run_trial(TrialSpec(agents=2, max_new_tokens=200), model)
    assert (recall.trial.status, recall.trial.sandbox_layers) == ("ok", None)
    assert len(asked) == 2
