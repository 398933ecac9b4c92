"""The ways in which the items of a trial take their turns together.

*In step* (without a ``wave``): the items of a batch take the same turn at the same time, and wait for the longest
answer. They see the pools as they were when the batch began, and publish at its end, in their order.

*Refilled*: ``batch_size`` rows take the items of a wave. Each item moves on by itself, and one that has ended leaves
its row to the next one. An item publishes as soon as it ends, and sees what was published before it began. So the
order of publishing is that of the steps in which items end, and within a step that of the items. A step runs one token
in every row, so this order follows from how long answers are, and from nothing that takes time: the same trial
publishes in the same order, at every attempt. At the end of a wave all rows are empty. A checkpoint between waves
therefore holds all there is.

The first wave has ``batch_size`` items, as the first batch does. They know nothing and teach; all later items see them,
and not only those among them that were quick. With ``kvcomm``, of 16 items in eight rows, 3 turns of the later eight
reused without this, and 12 in step.
"""

import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.results.measurements import FidelityRecord
from harness.results.trial_result import TurnRecord
from harness.spec import TrialSpec
from harness.trials.turn_checks import checks_of
from harness.workloads import Item
from kvcomm_core.engine import Request
from kvcomm_core.references.reference import Reference

if TYPE_CHECKING:
    from harness.trials.conversation import Conversation


@dataclass(frozen=True, slots=True)
class NextTurn:
    """An item's next turn, as the engine must know it."""

    round: int
    """Round, from 0."""
    agent_id: int
    template: str
    max_new_tokens: int
    keeps_kv: bool
    """Whether the turn is drawn for a check of fidelity."""


@dataclass(slots=True)
class Talk:
    """One item on its way through the agents."""

    index: int
    """Position of the item in the trial."""
    item: Item
    request: Request
    wanted: NextTurn | None = None
    """The turn under way."""
    references: list[Reference] | None = None
    """The dense turn on its current prompt, if the trial's answers are dense's and the item moves by itself."""
    started_us: int = 0
    """When the inputs of its current turn were known, in microseconds from 1970, UTC."""
    turns: list[TurnRecord] = field(default_factory=list)
    """The turns taken."""
    fidelity: list[FidelityRecord] = field(default_factory=list)

    @property
    def now(self) -> NextTurn:
        """The turn under way."""
        assert self.wanted is not None  # noqa: S101 - a turn has begun
        return self.wanted


def items_together(spec: TrialSpec, before: int) -> int:
    """Return the size of the batch or wave that begins after so many items."""
    return spec.batch_size if spec.wave is None or not before else spec.wave


def take_in_step(conversation: "Conversation", items: Sequence[tuple[int, Item]]) -> list[Talk]:
    """Take a batch of items through the agents in step. Return them with their turns, in order."""
    engine, energy, given = conversation.engine, conversation.energy, conversation.given
    with ExitStack() as batch:
        requests = batch.enter_context(engine.open_batch(len(items)))
        talks = [_open(conversation, request, *one) for request, one in zip(requests, items, strict=True)]
        while not conversation.is_over(talks[0]):
            wanted = [_begin(conversation, talk) for talk in talks]
            first = wanted[0]
            references = given.references(engine, requests, first.template, first.max_new_tokens)
            answers = given.of([item for _, item in items], first.agent_id, first.round, references)
            with energy.counting():
                turns = engine.take_turns(
                    requests,
                    first.template,
                    max_new_tokens=first.max_new_tokens,
                    answers=answers,
                    keep_kv=[number for number, one in enumerate(wanted) if one.keeps_kv],
                )
            checks = checks_of(conversation.model, turns, first.max_new_tokens, references)
            conversation.record(talks, turns, checks)
        with energy.counting():
            batch.close()  # which publishes
    return talks


def take_refilled(conversation: "Conversation", items: Sequence[tuple[int, Item]]) -> list[Talk]:
    """Take a wave of items through the agents, each by itself. Return them with their turns, in order."""
    rows, waiting = conversation.rows, deque(items)
    under_way: dict[Request, Talk] = {}
    over: list[Talk] = []

    def begin_turn(talk: Talk) -> None:
        wanted = _begin(conversation, talk)
        talk.references = conversation.given.references(
            conversation.engine, [talk.request], wanted.template, wanted.max_new_tokens
        )
        given = conversation.given.of([talk.item], wanted.agent_id, wanted.round, talk.references)
        rows.begin(
            talk.request,
            wanted.template,
            max_new_tokens=wanted.max_new_tokens,
            answer=None if given is None else given[0],
            keep_kv=wanted.keeps_kv,
        )

    while waiting or under_way:
        while waiting and rows.free:
            talk = _open(conversation, conversation.engine.open(), *waiting.popleft())
            under_way[talk.request] = talk
            begin_turn(talk)
        with conversation.energy.counting():
            found = rows.step()
        ended = sorted(((under_way[request], turn) for request, turn in found), key=lambda one: one[0].index)
        checks = [
            checks_of(conversation.model, [turn], talk.now.max_new_tokens, talk.references)[0] for talk, turn in ended
        ]
        conversation.record([talk for talk, _ in ended], [turn for _, turn in ended], checks)
        for talk, _ in ended:
            if conversation.is_over(talk):
                with conversation.energy.counting():
                    talk.request.close()
                over.append(under_way.pop(talk.request))
                if waiting or under_way:
                    conversation.done(len(conversation.samples) + len(over), len(conversation.items))
        for talk, _ in ended:
            if talk.request in under_way:
                begin_turn(talk)
    return sorted(over, key=lambda talk: talk.index)


def _open(conversation: "Conversation", request: Request, index: int, item: Item) -> Talk:
    request.provide("user_question", conversation.encode_content(item.question))
    return Talk(index, item, request)


def _begin(conversation: "Conversation", talk: Talk) -> NextTurn:
    talk.wanted = conversation.next_turn(talk)
    talk.started_us = time.time_ns() // 1000
    return talk.wanted
