"""The case that every check works on: a small model, a method's parameters, and agents that read each other."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from kvcomm_core.config import MethodConfig
from kvcomm_core.conformance.small_models import VOCABULARY, random_model
from kvcomm_core.engine import Engine, Request
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import Template, TokenIds
from kvcomm_core.turn import Turn

DType = Literal["float32", "bfloat16"]

HEADER = (3, 4, 5)
FILLER = (9, 9)
# Agent 1 has text around its hole. Agent 2 reads with an empty text between adjacent holes. Agent 3 has no leading
# text, reads one placeholder twice and ends in a text of a single token. "1 later" reads agent 1's answer of the round
# before, so its prompt continues an earlier prompt.
TEMPLATES = {
    "1": Template(((3, 4, 5, 20, 21), (22, 23)), ("user_question",)),
    "2": Template(((3, 4, 5, 30), (), (31, 32, 33)), ("user_question", "agent_1_current")),
    "3": Template(((), (41, 42), (43,), (44,)), ("agent_2_current", "user_question", "agent_2_current")),
    "1 later": Template(((3, 4, 5, 20, 21), (22, 23), (24, 25)), ("user_question", "agent_1_history_1")),
}
ANSWERS = {"1 later": "agent_1_current"}
ROUNDS = (("1", "2", "3"), ("1 later", "2"))
"""The turns of a request, by round."""
FIRST_QUESTION_TOKEN = 50
"""Questions are made of the tokens from here on, which no text has."""
MAX_NEW_TOKENS = 2
TOLERANCE: dict[DType, float] = {"float32": 1e-3, "bfloat16": 0.3}
"""Largest ``distance`` of logits that are the same but for rounding. In bfloat16, prefill in one piece and in two give
up to 0.08; ``naive`` and dense prefill are 1 to 2 apart."""


def question(length: int, seed: int) -> TokenIds:
    """Return random tokens, the same for the same seed and all different."""
    return tuple(random.Random(seed).sample(range(FIRST_QUESTION_TOKEN, VOCABULARY), length))


QUESTIONS = (question(8, 0), question(8, 1), question(5, 2), question(8, 0), question(0, 3))
"""One is asked twice and one is empty."""


@dataclass(frozen=True)
class Case:
    """A method's parameters, and one model to check the method on."""

    config: MethodConfig
    model: LoadedModel
    family: str
    dtype: DType

    @property
    def tolerance(self) -> float:
        """Largest ``distance`` of logits that are the same but for rounding."""
        return TOLERANCE[self.dtype]

    @property
    def is_rounded(self) -> bool:
        """Whether rounding may decide between close values, such as which token comes first."""
        return self.dtype != "float32"

    @cached_property
    def first_run(self) -> list[list[Turn]]:
        """All questions asked one after another, each turn with its KV; made once, and shared by several checks."""
        engine = self.engine()
        return [ask(engine, asked, keep_kv=True) for asked in QUESTIONS]

    def engine(self, of: type[Engine] = Engine) -> Engine:
        """Return a new engine with the method in its initial state, which knows the agents."""
        engine = of(self.model, self.config.build(self.model, HEADER), FILLER)
        register_agents(engine)
        return engine

    def with_end_tokens(self) -> "Case":
        """Return the case with a model whose answers may end at once, or early."""
        return replace(self, model=replace(self.model, eos_ids=frozenset(range(0, VOCABULARY, 4))))


def make_case(config: MethodConfig, family: str, dtype: DType) -> Case:
    """Return the case of a method on the small model of a family."""
    return Case(config, random_model(family, getattr(torch, dtype)), family, dtype)


def register_agents(engine: Engine) -> None:
    """Register the templates of all agents."""
    for name, template in TEMPLATES.items():
        engine.register(name, template, answers=ANSWERS.get(name))


def take_all_turns(engine: Engine, requests: Sequence[Request], *, keep_kv: bool = False) -> list[list[Turn]]:
    """Take requests, which have their question, through all agents and rounds as one batch. Return each request's
    turns."""
    turns: list[list[Turn]] = [[] for _ in requests]
    for index, names in enumerate(ROUNDS):
        if index:
            for request in requests:
                request.next_round()
        for name in names:
            kept = range(len(requests)) if keep_kv else ()
            taken = engine.take_turns(requests, name, max_new_tokens=MAX_NEW_TOKENS, keep_kv=kept)
            for own, turn in zip(turns, taken, strict=True):
                own.append(turn)
    return turns


def ask(engine: Engine, asked: TokenIds, *, keep_kv: bool = False) -> list[Turn]:
    """Take a question through all agents and rounds in one request."""
    with engine.open() as request:
        request.provide("user_question", asked)
        return take_all_turns(engine, [request], keep_kv=keep_kv)[0]


def distance(found_V: Tensor, true_V: Tensor) -> float:
    """Return the largest difference of two vectors of logits, in standard deviations of the second."""
    return float((found_V - true_V).abs().max() / true_V.std())


def place_of(request: int, turn: int) -> str:
    """Name a turn of a request, both counted from 0, for a finding."""
    names = [f"{name!r}, round {number}" for number, names in enumerate(ROUNDS, 1) for name in names]
    return f"request {request + 1}, template {names[turn]}"
