"""Judges: the letter that a turn picks, its grade, and the candidates whose answers are given."""

import json
from dataclasses import replace

import pytest
import torch
from tiny_models import tiny_chat_model

from harness.results.trial_result import TrialResult
from harness.spec import TrialSpec
from harness.trials.runner import run_trial
from harness.trials.turn_grading import letter_logprobs, picked_letter
from harness.workloads.judge import JudgeSpec
from kvcomm_core.config import KVCommConfig
from kvcomm_core.models.loading import LoadedModel

WORKLOAD = JudgeSpec(limit=3, candidates=3)
DENSE = TrialSpec(workload=WORKLOAD, agents=4, topology="debate")


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return tiny_chat_model()


@pytest.fixture(scope="module")
def dense(model: LoadedModel) -> TrialResult:
    return run_trial(DENSE, model)


def test_logprobs_are_those_of_the_whole_vocabulary() -> None:
    """Catches probabilities among the letters alone, from which nobody can tell that the model meant none of them."""
    logits = torch.tensor([0.5, -1.0, 2.0, 7.0])
    found = json.loads(letter_logprobs(logits, {"A": (0,), "B": (2,)}))
    total = sum(torch.exp(logits.double()).tolist())
    assert found == pytest.approx(
        {"A": 0.5 - torch.log(torch.tensor(total)).item(), "B": 2.0 - torch.log(torch.tensor(total)).item()}
    )


@pytest.mark.parametrize("letters", [{"A": (1, 2), "B": (3,)}, {"A": (1,), "B": (1,)}, {"A": ()}])
def test_letters_without_a_token_of_their_own_are_refused(letters: dict[str, tuple[int, ...]]) -> None:
    """Catches a pick by the first half of a letter, which all letters may share."""
    with pytest.raises(ValueError, match="no token of its own for each of the letters A"):
        letter_logprobs(torch.zeros(9), letters)


def test_the_pick_is_the_likeliest_letter_after_the_prompt(model: LoadedModel, dense: TrialResult) -> None:
    """Against transformers' own forward pass on the text of the prompt. Catches logits of another token or turn, and
    a pick that is graded by what the judge wrote."""
    assert dense.trial.error is None
    items = {item.item_id: item for item in WORKLOAD.load(0)}
    judged = [turn for turn in dense.turns if turn.agent_index == 4]
    assert len(judged) == len(items) == 3
    tokenizer = model.tokenizer
    letter_ids = [tokenizer(letter, add_special_tokens=False).input_ids[0] for letter in "ABC"]
    for turn, sample in zip(judged, dense.samples, strict=True):
        ids = tokenizer(turn.prompt_text, add_special_tokens=False).input_ids
        with torch.inference_mode():
            logits = model.network(torch.tensor([ids])).logits[0, -1]
        expected = "ABC"[int(logits[letter_ids].argmax())]
        assert turn.extracted == sample.extracted == picked_letter(turn) == expected
        assert turn.grade_rule == sample.grade_rule == "first_token"
        right = expected == items[turn.item_id].expected
        assert turn.outcome == sample.outcome == ("correct" if right else "wrong")
        assert 1 <= turn.output_tokens <= 8
    assert dense.trial.n_correct == sum(sample.outcome == "correct" for sample in dense.samples)


def test_candidates_answers_are_given_and_read_by_the_judge(dense: TrialResult) -> None:
    """Catches an answer that the model decoded, one under another letter, and a grade of what nobody answered."""
    items = {item.item_id: item for item in WORKLOAD.load(0)}
    for turn in dense.turns:
        item = items[turn.item_id]
        if turn.agent_index == 4:
            blocks = [
                f"Candidate {letter} (agent {index}):\n{text}"
                for index, (letter, text) in enumerate(item.data.items(), 1)
            ]
            assert "\n\n".join(blocks) in turn.prompt_text
        else:
            assert turn.output_text == item.given[turn.agent_index - 1]
            assert (turn.stop_reason, turn.grade_rule, turn.outcome, turn.extracted) == ("given", "given", None, None)
            assert turn.letter_logprobs_json is None
            assert item.question in turn.prompt_text


@pytest.mark.parametrize("method", ["naive", "epic", "kvcomm"])
def test_every_arm_judges_the_same_prompts(method: str, model: LoadedModel, dense: TrialResult) -> None:
    """Catches arms whose candidates differ, after which another pick says nothing about the KV."""
    pools = KVCommConfig(estimator="mean", criterion="always", min_anchors=1)
    spec = replace(DENSE, method=method, fidelity=1.0)
    result = run_trial(replace(spec, parameters=pools) if method == "kvcomm" else spec, model)
    assert result.trial.error is None
    assert [turn.prompt_sha256 for turn in result.turns] == [turn.prompt_sha256 for turn in dense.turns]
    judged = [turn for turn in result.turns if turn.agent_index == 4]
    assert any(turn.mode != "dense" for turn in judged)
    assert all(turn.kl_next_token is not None for turn in judged if turn.mode != "dense")
    assert [turn.letter_logprobs_json for turn in judged] != [
        turn.letter_logprobs_json for turn in dense.turns if turn.agent_index == 4
    ]
