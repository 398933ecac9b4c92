"""Our conversations as a log: the text is that of the turns, in each form, and potential finds what the agents read."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_up import MakeResult, make_result, write_results
from tiny_models import tiny_chat_model

from analysis.potential.counting import account_of
from analysis.potential.export import ExportError, Form, export_trace
from analysis.results import Results
from harness.results.trial_result import TrialResult
from harness.spec import TrialSpec
from harness.traces.call import Call
from harness.traces.reading import read_calls
from harness.trials.runner import run_trial
from harness.workloads.recall import RecallSpec

__all__ = ["make_result"]

SPEC = TrialSpec(workload=RecallSpec(limit=3), agents=4, rounds=2, max_new_tokens=60)


@pytest.fixture(scope="module")
def trial() -> TrialResult:
    result = run_trial(SPEC, tiny_chat_model())
    assert result.trial.error is None
    return result


@pytest.fixture
def results(tmp_path: Path, trial: TrialResult) -> Results:
    return Results(write_results(tmp_path / "results", replace(trial, trial=replace(trial.trial, sweep="s"))))


def exported(results: Results, tmp_path: Path, form: Form = "chat") -> list[Call]:
    path = tmp_path / f"{form}.jsonl"
    written = export_trace(results, path, form=form)
    calls = [call for call in read_calls(path) if isinstance(call, Call)]
    assert (written.calls, written.conversations, written.in_one_message) == (len(calls), 3, 0)
    return calls


@pytest.mark.slow
def test_the_text_is_that_of_the_turns(results: Results, trial: TrialResult, tmp_path: Path) -> None:
    """Catches text that is lost between the parts, answers of another turn, and agents that are mixed up."""
    assert len(trial.turns) == 24
    for form in ("chat", "aiperf"):
        for call, turn in zip(exported(results, tmp_path, form), trial.turns, strict=True):
            said = [f"<|im_start|>{message.role}\n{message.text}<|im_end|>\n" for message in call.messages]
            assert turn.prompt_text == "".join([*said, "<|im_start|>assistant\n"])
            assert call.conversation == turn.item_id
            assert call.answer == (turn.output_text if form == "chat" else None)
    for call, turn in zip(exported(results, tmp_path, "lmcache"), trial.turns, strict=True):
        assert (call.messages[0].text, call.answer) == (turn.prompt_text, turn.output_text)
    assert {call.agent for call in exported(results, tmp_path)} == {"Reader", "Fact Keeper", "Checker", "FinalRefer"}


def test_potential_finds_what_the_agents_read(results: Results, trial: TrialResult, tmp_path: Path) -> None:
    """Catches answers and questions that are not parts of their own, so that they would count as fragments."""
    calls = exported(results, tmp_path)
    account = account_of(calls, shortest=8)
    answers = {turn.output_text for turn in trial.turns if turn.output_text}
    read = sum(turn.prompt_text.count(answer) for turn in trial.turns for answer in answers if turn.prompt_text)
    assert read > 40
    assert account.total.whole_answers > 0
    assert account.total.whole_inputs > 0
    assert account.total.fragments < 0.06 * account.total.prompt  # instructions that several roles share
    text = account_of(exported(results, tmp_path, "lmcache"), shortest=8)
    assert text.total.elsewhere == pytest.approx(account.total.elsewhere, rel=0.25)  # with the markup


def test_the_lines_are_as_others_read_them(results: Results, tmp_path: Path) -> None:
    """Catches keys that aiperf's or LMCache's readers do not know."""
    keys = {
        "chat": {"session_id", "agent", "model", "messages", "response", "metadata"},
        "aiperf": {"session_id", "messages", "output_length"},
        "lmcache": {"timestamp", "input", "output", "session_id"},
    }
    for form, expected in keys.items():
        exported(results, tmp_path, form)  # type: ignore[arg-type]
        lines = [json.loads(line) for line in (tmp_path / f"{form}.jsonl").read_text().splitlines()]
        assert {frozenset(line) for line in lines} == {frozenset(expected)}


def test_prompts_of_unknown_markup_are_one_message(tmp_path: Path, make_result: MakeResult) -> None:
    written = export_trace(Results(write_results(tmp_path / "r", make_result(SPEC))), tmp_path / "log.jsonl")
    assert written.in_one_message == written.calls == 8
    first = next(iter(read_calls(tmp_path / "log.jsonl")))
    assert isinstance(first, Call)
    assert [(message.role, message.text) for message in first.messages] == [("user", "?")]
    assert first.agent == "Reader 1"


def test_which_trial(tmp_path: Path, make_result: MakeResult) -> None:
    """Catches conversations of several trials in one log, in which each would seem to repeat the other."""
    specs = [SPEC, replace(SPEC, method="naive")]
    results = Results(write_results(tmp_path / "r", *map(make_result, specs)))
    with pytest.raises(ExportError) as caught:
        export_trace(results, tmp_path / "log.jsonl")
    named = ", ".join(sorted(f"{spec.trial_id} (recall, {spec.method})" for spec in specs))
    assert str(caught.value) == f"2 trials with text are in the results; allowed: one, chosen by --trial: {named}"
    export_trace(results, tmp_path / "log.jsonl", trial=specs[1].trial_id)
    assert specs[1].trial_id in (tmp_path / "log.jsonl").read_text()
    with pytest.raises(ExportError, match="--trial is 'nonsense'; allowed: the id of a trial that ended well"):
        export_trace(results, tmp_path / "log.jsonl", trial="nonsense")
    without = make_result(SPEC)
    without = replace(without, turns=[replace(turn, prompt_text=None) for turn in without.turns])
    with pytest.raises(ExportError, match="0 trials with text are in the results; allowed: one"):
        export_trace(Results(write_results(tmp_path / "other", without)), tmp_path / "log.jsonl")


def test_a_trial_that_several_sweeps_ran_is_written_once(tmp_path: Path, make_result: MakeResult) -> None:
    both = [make_result(SPEC, sweep=sweep) for sweep in ("one", "two")]
    assert export_trace(Results(write_results(tmp_path / "r", *both)), tmp_path / "log.jsonl").calls == 8
