"""References against ``measure_fidelity``, which takes dense turns of its own, and given answers against decoding."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from tiny_models import VOCABULARY, tiny_model

from kvcomm_core.engine import Engine
from kvcomm_core.fidelity import measure_fidelity
from kvcomm_core.methods.naive import Naive
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.references.reference import compare_with_reference, take_references
from kvcomm_core.template import Template, TokenIds
from kvcomm_core.turn import Turn

HEADER, FILLER = (3, 4, 5), (9, 9)
FIRST = Template(((3, 4, 5, 20, 21), (22, 23)), ("question",))
SECOND = Template(((3, 4, 5, 30), (), (31, 32, 33)), ("question", "agent_1_current"))
LENGTHS = (4, 9, 6)
NEW = 6


def turns_of(
    model: LoadedModel, answers: Sequence[TokenIds] | None = None, second: Sequence[TokenIds] | None = None
) -> tuple[list[Turn], list[Turn]]:
    """A batch of prompts of different lengths through two agents with rotation alone; answers are decoded or given."""
    engine = Engine(model, Naive(model, HEADER), FILLER)
    engine.register("1", FIRST)
    engine.register("2", SECOND)
    generator = random.Random(3)
    everyone = range(len(LENGTHS))
    with engine.open_batch(len(LENGTHS)) as requests:
        for request, length in zip(requests, LENGTHS, strict=True):
            request.provide("question", tuple(generator.randrange(VOCABULARY) for _ in range(length)))
        one = engine.take_turns(requests, "1", max_new_tokens=NEW, answers=answers, keep_kv=everyone)
        two = engine.take_turns(requests, "2", max_new_tokens=NEW, answers=second, keep_kv=everyone)
    return one, two


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return tiny_model(layers=6)


@pytest.mark.parametrize("ends", [False, True])
def test_a_turn_is_compared_as_with_a_dense_turn_of_its_own(model: LoadedModel, ends: bool) -> None:
    """Catches a reference of another row, logits at another position, an answer's last token run too often, and a
    position after the end-of-sequence token that is left out."""
    _, turns = turns_of(model)
    if ends:  # at the third token that dense says in the second row
        answer = take_references(model, [turn.prompt for turn in turns], NEW)[1].answer
        model = replace(model, eos_ids=frozenset([answer.token_ids[2]]))
        _, turns = turns_of(model)
    references = take_references(model, [turn.prompt for turn in turns], NEW)
    assert ("eos" in {reference.answer.stop_reason for reference in references}) == ends
    expected = measure_fidelity(model, turns, max_new_tokens=NEW)
    for turn, reference, one in zip(turns, references, expected, strict=True):
        found = compare_with_reference(model, turn, reference)
        assert found.segments == ()
        assert found.answer == one.answer
        assert found.next_token.kl == pytest.approx(one.next_token.kl, rel=1e-4, abs=1e-7)
        assert found.continuation is not None
        assert one.continuation is not None
        assert found.continuation.tokens == one.continuation.tokens
        assert found.continuation.kl == pytest.approx(one.continuation.kl, rel=1e-4, abs=1e-7)
    assert max(one.next_token.kl for one in expected) > 1e-3


def test_given_answers_leave_what_decoding_them_leaves(model: LoadedModel) -> None:
    """Catches an answer's KV at the position or in the slot of another, and one computed on top of another row, where
    prompts differ in length."""
    one, two = turns_of(model)
    given, next_turns = turns_of(model, [turn.answer_ids for turn in one])
    assert [turn.stop_reason for turn in given] == ["given"] * len(LENGTHS)
    for turn, expected in zip(next_turns, two, strict=True):
        assert turn.prompt == expected.prompt
        assert turn.prompt_kv is not None
        assert expected.prompt_kv is not None
        for tensor, expected_tensor in zip(turn.prompt_kv.tensors, expected.prompt_kv.tensors, strict=True):
            torch.testing.assert_close(tensor, expected_tensor, rtol=1e-3, atol=1e-4)


def test_an_answer_that_was_given_is_not_compared(model: LoadedModel) -> None:
    """Catches agreement of 1 for answers that are dense's own: nothing is then known about the method's."""
    answers = [(5, 6), (7,), (8, 9, 10)]
    one, _ = turns_of(model, answers)
    references = take_references(model, [turn.prompt for turn in one], NEW)
    found = compare_with_reference(model, one[0], references[0])
    assert found.answer is None
    assert found.continuation is not None
    with pytest.raises(ValueError, match="prompt_kv is None; allowed: a turn taken with keep_kv"):
        compare_with_reference(model, replace(one[0], prompt_kv=None), references[0])
