"""Items that leave their rows to others, against the same items one by one, in the stated order of publishing."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from chat_tokenizers import chat_tokenizer
from same_rows import differences, steady
from tiny_models import tiny_model

from harness.memory import MemoryMeter
from harness.results.checkpoint import Checkpoints
from harness.results.trial_result import TurnRecord
from harness.spec import TrialSpec
from harness.trials.conversation import Conversation
from harness.trials.runner import run_trial
from harness.trials.schedules import Talk
from harness.trials.trial_run import TrialRun
from harness.workloads.recall import RecallSpec
from kvcomm_core.config import KVCommConfig, MethodConfig
from kvcomm_core.engine import Request
from kvcomm_core.method import Method
from kvcomm_core.models.loading import LoadedModel

ITEMS = 11
SPEC = TrialSpec(workload=RecallSpec(limit=ITEMS), agents=2, max_new_tokens=9, batch_size=3, wave=6)
"""Three waves, of three, six and two items, in three rows."""
KVCOMM = replace(SPEC, method="kvcomm", parameters=KVCommConfig(gamma=1.0, max_anchors=4, window=2))
SPECS = {
    "dense": SPEC,
    "kvcomm": KVCOMM,
    "two rounds, running means": replace(
        KVCOMM, rounds=2, parameters=KVCommConfig(criterion="always", estimator="mean")
    ),
    "prefix": replace(SPEC, method="prefix", parameters=MethodConfig()),
    "one row": replace(KVCOMM, batch_size=1),
    "an odd end": replace(KVCOMM, batch_size=2, wave=ITEMS - 3),
}


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    """Six layers, and answers of many lengths: a fifth of all tokens end one."""
    chat = chat_tokenizer("smollm2")
    made = tiny_model(vocabulary=len(chat), context=8192, layers=6)
    return replace(made, tokenizer=chat, eos_ids=frozenset(range(0, len(chat), 5)))


def conversation_of(spec: TrialSpec, model: LoadedModel) -> Conversation:
    return Conversation(TrialRun(spec=spec, loaded=model, memory=MemoryMeter([torch.device("cpu")])))


@dataclass
class _Alone:
    """An item of the slow version, and the step at whose end its current turn is over."""

    talk: Talk
    ends: int = 0


def one_by_one(conversation: Conversation) -> Iterator[int]:
    """Take every item alone, one turn at a time. Yield the items in the order in which they publish.

    The schedule is written out by counting. A step gives each row one token, the first one included. A method that
    learns from answers needs one more step for the last token of an answer that is cut off.
    """
    spec, step = conversation.spec, 0
    starts = [0, *range(spec.batch_size, ITEMS, spec.wave), ITEMS]
    for start, stop in pairwise(starts):
        waiting = list(conversation.items[start:stop])
        under_way: list[_Alone] = []
        while waiting or under_way:
            begun = [one for one in under_way if one.ends < step]
            while waiting and len(under_way) < spec.batch_size:
                index, item = waiting.pop(0)
                request = conversation.engine.open()
                request.provide("user_question", conversation.encode_content(item.question))
                under_way.append(_Alone(Talk(index, item, request)))
                begun.append(under_way[-1])
            for one in begun:
                wanted = one.talk.wanted = conversation.next_turn(one.talk)
                turn = one.talk.request.take_turn(wanted.template, max_new_tokens=wanted.max_new_tokens)
                conversation.record([one.talk], [turn], [None])
                tokens = len(turn.answer_ids) + (turn.stop_reason == "eos")
                cut = turn.stop_reason == "length" and conversation.method.needs_answer_kv
                one.ends = step + tokens - 1 + cut
            for one in [one for one in under_way if one.ends == step]:
                if conversation.is_over(one.talk):
                    one.talk.request.close()
                    under_way.remove(one)
                    conversation.turns += one.talk.turns
                    yield one.talk.index
            under_way.sort(key=lambda one: one.talk.index)
            step += 1


def pools_of(method: Method) -> dict[str, list[tuple[object, ...]]]:
    """What each pool holds, oldest first: anchors, and how often they were used."""
    if method.pools is None:
        return {}
    states = method.pools.state()
    return {
        name: [
            (a.token_ids, used, sorted(map(str, a.offsets))) for a, used in zip(s.anchors, s.activations, strict=True)
        ]
        for name, s in states.items()
    }


def turns_of(turns: list[TurnRecord]) -> list[tuple[object, ...]]:
    """What a turn is, beside its rounding."""
    same = ("sample_index", "round", "agent_index", "prompt_sha256", "output_text", "stop_reason", "mode")
    more = ("no_reuse_reason", "anchors_in_pool", "pool_bytes", "computed_tokens", "exact_prefix_tokens")
    return [tuple(getattr(turn, name) for name in (*same, *more)) for turn in turns]


@pytest.mark.parametrize("name", SPECS)
def test_items_are_as_if_alone_and_publish_in_the_stated_order(name: str, model: LoadedModel, monkeypatch) -> None:
    """Would catch a row that reads another's slots, a turn that stops with another, pools read live or a step too
    early, items published in the order of their rows, and anything that crosses the border of a wave."""
    spec, published = SPECS[name], []
    found, expected = conversation_of(spec, model), conversation_of(spec, model)

    def publish(request: Request) -> None:
        published.append(request.values["user_question"])
        close(request)

    close = Request.close
    monkeypatch.setattr(Request, "close", publish)
    found.run()
    questions = [found.encode_content(item.question) for _, item in found.items]
    in_order, order = [questions.index(asked) for asked in published], list(one_by_one(expected))
    assert in_order == order
    if spec.batch_size > 1:
        assert order != sorted(order), "the order must differ from that of the items, or nothing is tested"
    expected.turns.sort(key=lambda turn: turn.sample_index)
    assert turns_of(found.turns) == turns_of(expected.turns)
    assert [sample.sample_index for sample in found.samples] == list(range(ITEMS))
    assert pools_of(found.method) == pools_of(expected.method)
    assert len({turn.output_tokens for turn in found.turns}) > 3
    if spec.method == "kvcomm":
        assert {turn.mode for turn in found.turns} == {"dense", "reuse"}


def test_the_same_again(model: LoadedModel) -> None:
    """To the last bit. Would catch rows, or a buffer's size, that depend on an earlier wave or trial."""
    first, again = (conversation_of(KVCOMM, model) for _ in range(2))
    first.run()
    again.run()
    assert [steady(turn) for turn in again.turns] == [steady(turn) for turn in first.turns]
    for a, b in zip(first.method.describe_state()[1], again.method.describe_state()[1], strict=True):
        assert torch.equal(a, b)


class KilledError(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("killed_at", range(1, ITEMS + 1))
def test_a_trial_continues_from_the_last_wave_as_if_undisturbed(
    killed_at: int, model: LoadedModel, tmp_path: Path
) -> None:
    """Killed when each number of items is over. Would catch a checkpoint within a wave, whose rows are lost, and one
    that forgets what was published."""
    spec = replace(KVCOMM, fidelity=0.3)
    expected = run_trial(spec, model)
    assert expected.trial.error is None
    reports: list[int] = []

    def die(done: int, total: int) -> None:
        assert total == ITEMS
        reports.append(done)
        if len(reports) == killed_at:
            raise KilledError

    checkpoints = Checkpoints(tmp_path, 1e-9)
    with pytest.raises(KilledError):
        run_trial(spec, model, on_sample=die, checkpoints=checkpoints)
    assert reports == list(range(1, killed_at + 1))
    found = run_trial(spec, model, attempt=2, checkpoints=checkpoints)
    assert differences(found, expected) == []
    assert found.trial.resumed_from == max(border for border in (0, 3, 9) if border < killed_at or not border)


def test_tools_of_a_step_fill_their_own_items(model: LoadedModel, monkeypatch) -> None:
    """Would catch a tool's result that goes to another item of the same step."""
    conversation = conversation_of(replace(SPEC, agents=3), model)
    seen: dict[str, _Result] = {}
    talks: list[Talk] = []
    close = conversation._close
    monkeypatch.setattr(conversation, "_close", lambda wave: (talks.extend(wave), close(wave)))
    monkeypatch.setattr(conversation, "tool_users", {1})
    monkeypatch.setattr(
        conversation, "_call_tool", lambda item, turn: seen.setdefault(item.item_id, _Result(turn.output_text))
    )
    conversation.run()
    answers = [(turn.output_text, turn.tool_text) for turn in conversation.turns if turn.agent_index == 1]
    assert [text for text, _ in answers] == [result for _, result in answers]
    assert len(seen) == ITEMS
    for talk in talks:
        values = talk.request.values
        text = conversation.decode(values["agent_1_current"], skip_special_tokens=True)
        assert values["condition_1_current"] == conversation.encode_content(text)


@dataclass(frozen=True)
class _Result:
    text: str
    outcome: str = "ok"
