"""Placeholders of every kind in templates of any shape: adjacent, repeated and empty ones, over two rounds."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import VOCABULARY, tiny_model

from kvcomm_core.config import KVCommConfig
from kvcomm_core.engine import Engine, Request
from kvcomm_core.method import Method
from kvcomm_core.methods.dense import Dense
from kvcomm_core.methods.kvcomm import KVComm
from kvcomm_core.template import Template, TokenIds
from kvcomm_core.turn import Turn

MODEL = tiny_model()
HEADER = (3, 4, 5)
INPUTS = ("user_question", "condition_1_current")
FIRST_ROUND = {"1": INPUTS, "2": (*INPUTS, "agent_1_current")}
HISTORY = ("agent_1_history_1", "agent_2_history_1", "condition_1_history_1")
LATER = {name: (*holes, *HISTORY) for name, holes in FIRST_ROUND.items()}

ids = st.lists(st.integers(0, VOCABULARY - 1), max_size=4).map(tuple)


@dataclass(frozen=True)
class Case:
    """Templates of both rounds by name, ``2 later`` being agent 2's in the second, and the values of two requests."""

    templates: dict[str, Template]
    values: list[dict[str, TokenIds]]


@st.composite
def templates(draw: st.DrawFn, holes: tuple[str, ...]) -> Template:
    chosen = draw(st.lists(st.sampled_from(holes), max_size=5))
    texts = [draw(ids) for _ in chosen]
    return Template((*texts, draw(ids.filter(bool))), tuple(chosen))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    drawn = {name: draw(templates(holes)) for name, holes in FIRST_ROUND.items()}
    drawn |= {f"{name} later": draw(templates(holes)) for name, holes in LATER.items()}
    return Case(drawn, [{name: draw(ids) for name in INPUTS} for _ in range(2)])


def engine_of(case: Case, method: Method) -> Engine:
    engine = Engine(MODEL, method, filler_ids=(9, 9))
    for name, template in case.templates.items():
        engine.register(name, template, answers=f"agent_{name[0]}_current")
    return engine


def converse(engine: Engine, case: Case, requests: list[Request]) -> list[list[Turn]]:
    """Two rounds of a batch; per turn the rows."""
    turns = []
    for request, values in zip(requests, case.values, strict=False):
        request.provide("user_question", values["user_question"])
    for names in (("1", "2"), ("1 later", "2 later")):
        for request, values in zip(requests, case.values, strict=False):
            request.provide("condition_1_current", values["condition_1_current"])
        turns += [engine.take_turns(requests, name, max_new_tokens=2) for name in names]
        for request in requests:
            request.next_round()
    return turns


def assert_same(turn: Turn, reference: Turn) -> None:
    assert turn.prompt == reference.prompt
    assert turn.answer_ids == reference.answer_ids
    torch.testing.assert_close(turn.first_logits_V, reference.first_logits_V, rtol=0, atol=1e-3)


@pytest.mark.slow
@settings(max_examples=20, deadline=None, derandomize=True)
@given(cases())
def test_any_template_with_any_values(case: Case) -> None:
    """Dense equals one bare forward pass, reuse of the very sample equals dense, and a batch equals single requests.

    Would catch spans that an empty text or value shifts, a repeated placeholder whose offsets overwrite each other,
    and rows of a batch that a neighbour's empty value displaces.
    """
    dense, reuse = engine_of(case, Dense()), engine_of(case, KVComm(MODEL, HEADER, KVCommConfig(gamma=1.0)))
    with dense.open() as request:
        truth = [rows[0] for rows in converse(dense, case, [request])]
    for turn in truth:
        with torch.inference_mode():
            logits_V = MODEL.network(torch.tensor([turn.prompt.token_ids])).logits[0, -1]
        torch.testing.assert_close(turn.first_logits_V, logits_V, rtol=0, atol=1e-4)

    for _ in range(2):
        with reuse.open() as request:
            turns = [rows[0] for rows in converse(reuse, case, [request])]
    for turn, reference in zip(turns, truth, strict=True):
        assert turn.mode == ("reuse" if len(turn.prompt) > 1 else "dense")
        assert_same(turn, reference)

    for engine in (dense, reuse):
        singles = []
        for index in range(len(case.values)):  # none is closed, so that each sees the pools as the batch does
            single = Case(case.templates, case.values[index:])
            singles.append([rows[0] for rows in converse(engine, single, [engine.open()])])
        with engine.open_batch(len(case.values)) as requests:
            batch = converse(engine, case, requests)
        for row, turns in enumerate(singles):
            for rows, reference in zip(batch, turns, strict=True):
                assert rows[row].mode == reference.mode
                assert_same(rows[row], reference)
