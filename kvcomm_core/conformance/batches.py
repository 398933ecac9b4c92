"""Checks of batches, and of requests in flight side by side."""

from collections.abc import Sequence

from kvcomm_core.conformance.cases import MAX_NEW_TOKENS, ROUNDS, Case, ask, question, take_all_turns
from kvcomm_core.conformance.comparing import require_same, require_same_bits
from kvcomm_core.engine import Engine, Request
from kvcomm_core.template import TokenIds
from kvcomm_core.turn import Turn

_BEFORE = (question(8, 0), question(8, 1))
"""Questions asked before, so that there is something to reuse."""
_EQUAL = (question(8, 10), question(8, 0), question(8, 11))
_DIFFERENT = (question(3, 10), question(8, 0), question(12, 11), question(0, 12))


def check_batch(case: Case) -> str:
    """Ask questions of equal length as a batch, and one by one of a method that learns from them only afterwards. The
    prompts are equally long, so nothing is padded."""
    _compare(case, _EQUAL, "in a batch of prompts of equal length")
    return ""


def check_padding(case: Case) -> str:
    """Do the same with questions and answers of different lengths, one of them empty."""
    _compare(case.with_end_tokens(), _DIFFERENT, "in a batch of prompts of different lengths")
    return ""


def check_isolation(case: Case) -> str:
    """Take turns of two requests in alternation, and compare each with the same request alone, in a method that knows
    nothing yet and in one that has answered a question."""
    for before in ((), _BEFORE[:1]):
        found = _in_flight(case, before, _EQUAL[:2])
        expected = [_in_flight(case, before, (asked,))[0] for asked in _EQUAL[:2]]
        require_same_bits(found, expected, f"beside another request, after {len(before)} others (compared with alone)")
    return ""


def _compare(case: Case, questions: tuple[TokenIds, ...], when: str) -> None:
    """Compare a batch with the same requests one by one, and what the method has learnt from either."""
    together, alone = case.engine(), case.engine()
    for engine in (together, alone):
        for asked in _BEFORE:
            ask(engine, asked)
    with together.open_batch(len(questions)) as requests:
        for request, asked in zip(requests, questions, strict=True):
            request.provide("user_question", asked)
        found = take_all_turns(together, requests)
    with alone.open_batch(len(questions)) as requests:
        for request, asked in zip(requests, questions, strict=True):
            request.provide("user_question", asked)
        expected = _one_by_one(alone, requests)
    require_same(case, found, expected, when)
    found, expected = ([ask(engine, questions[0])] for engine in (together, alone))
    require_same(case, found, expected, f"after requests {when}")


def _one_by_one(engine: Engine, requests: Sequence[Request]) -> list[list[Turn]]:
    return [take_all_turns(engine, [request])[0] for request in requests]


def _in_flight(case: Case, before: tuple[TokenIds, ...], questions: tuple[TokenIds, ...]) -> list[list[Turn]]:
    """Open one request per question in a new method that has answered those before, and take their turns in
    alternation."""
    engine = case.engine()
    for asked in before:
        ask(engine, asked)
    requests = [engine.open() for _ in questions]
    for request, asked in zip(requests, questions, strict=True):
        request.provide("user_question", asked)
    turns: list[list[Turn]] = [[] for _ in requests]
    for number, names in enumerate(ROUNDS):
        for name in names:
            for request, own in zip(requests, turns, strict=True):
                if number and name == names[0]:
                    request.next_round()
                own.append(request.take_turn(name, max_new_tokens=MAX_NEW_TOKENS))
    return turns
