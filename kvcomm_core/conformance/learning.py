"""Checks of what a method keeps from request to request."""

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kvcomm_core.config import shown
from kvcomm_core.conformance.cases import Case, ask, question
from kvcomm_core.conformance.comparing import require_same_bits
from kvcomm_core.conformance.finding import Finding
from kvcomm_core.engine import Engine
from kvcomm_core.template import TokenIds

REQUESTS = 8
"""Number of requests in which memory must not grow, after twice as many."""
_GROWTH = 1.2
"""Part by which it may still vary. If it grew with each request, it would be 1.5 times as large."""
_SLACK = 1024
"""Bytes of tensors that no account needs to mention."""


def check_bounded(case: Case) -> str:
    """Take many requests of the same shapes and different content. After two thirds of them, what the method keeps
    grows no more. ``pool_bytes`` counts it, and is None only for a method that keeps nothing."""
    small = {name: value for name, value in case.config.small_limits.items() if getattr(case.config, name) is not None}
    engine = replace(case, config=replace(case.config, **case.config.small_limits)).engine()
    held, told = [], []
    with _older_objects_aside():
        for number in range(3 * REQUESTS):
            _take_short(engine, number)
            told.append(engine.method.pool_bytes or 0)
            if number + 1 in (1, 2 * REQUESTS, 3 * REQUESTS):
                held.append(_held_bytes())
    where = f"{3 * REQUESTS} requests of the same shapes" + "".join(f", {n}={v}" for n, v in small.items())
    allowed = f"after {2 * REQUESTS}; a limit that takes longer to reach belongs in small_limits of the parameters"
    earlier, last = max(told[:-REQUESTS]), max(told[-REQUESTS:])
    if last > _GROWTH * earlier:
        raise Finding(where, expected=f"pool_bytes of {earlier:,}, as {allowed}", found=f"{last:,}")
    grown, kept, counted = held[2] - held[1], held[2] - held[0], told[-1] - told[0]
    if grown > _SLACK + (_GROWTH - 1) * last:
        raise Finding(where, expected=f"no more memory than {allowed}", found=f"{grown:,} more bytes of tensors")
    if kept > _SLACK + _GROWTH * max(0, counted):
        expected = f"pool_bytes to count the {kept:,} bytes of tensors kept since the first request"
        raise Finding(where, expected=expected, found=f"{counted:,}, now {engine.method.pool_bytes}")
    return "nothing is kept" if engine.method.pool_bytes is None else f"{last:,} bytes are kept"


def check_state(case: Case) -> str:
    """Describe what the method has learnt, carry it through JSON and copies of the tensors, and restore it in a new
    method and in one that has learnt something else. Both continue to the last bit like the one described."""
    first = case.engine()
    for asked in (question(8, 0), question(8, 1)):
        ask(first, asked)
    description, tensors = first.method.describe_state()
    text = _as_json(description)
    for number, tensor in enumerate(tensors):
        if not isinstance(tensor, Tensor):
            raise Finding("describe_state", expected=f"tensors, also at index {number}", found=type(tensor).__name__)
    copies = [tensor.detach().cpu().clone() for tensor in tensors]
    later = (question(8, 0), question(7, 3))
    expected = [ask(first, asked) for asked in later]
    for learnt, when in (((), "a new method"), ((question(8, 2),), "a method that had learnt other things")):
        engine = case.engine()
        for asked in learnt:
            ask(engine, asked)
        engine.method.restore(json.loads(text), [tensor.clone() for tensor in copies])
        found = [ask(engine, asked) for asked in later]
        require_same_bits(found, expected, f"after restore in {when} (compared with the one described)")
        if engine.method.pool_bytes != first.method.pool_bytes:
            raise Finding(
                f"after restore in {when} and {len(later)} requests",
                expected=f"pool_bytes={first.method.pool_bytes}",
                found=f"{engine.method.pool_bytes}",
            )
    return f"{len(text):,} characters of JSON and {len(tensors)} tensors"


def check_failed(case: Case) -> str:
    """Let a request fail after its last turn. The method continues as if that request had never been."""
    failing, clean = case.engine(), case.engine()
    for engine in (failing, clean):
        ask(engine, question(8, 0))
    before = failing.method.pool_bytes
    try:
        with failing.open() as request:
            request.provide("user_question", question(8, 1))
            for name in ("1", "2", "3"):
                request.take_turn(name, max_new_tokens=2)
            raise _FailedError
    except _FailedError:
        pass
    if failing.method.pool_bytes != before:
        found = f"pool_bytes={failing.method.pool_bytes}"
        raise Finding("after a request that failed", expected=f"pool_bytes={before}, as before it", found=found)
    later = (question(8, 1), question(8, 0))
    found_turns, expected = ([ask(engine, asked) for asked in later] for engine in (failing, clean))
    require_same_bits(found_turns, expected, "after a request with the first one's question has failed")
    return ""


class _FailedError(Exception):
    pass


def _take_short(engine: Engine, number: int) -> None:
    """Take a question through two agents whose answers are given, all of it new."""
    with engine.open() as request:
        request.provide("user_question", question(8, 1000 + number))
        for agent, name in enumerate(("1", "2")):
            answer: TokenIds = question(3, 2000 + 2 * number + agent)
            engine.take_turns([request], name, max_new_tokens=1, answers=[answer])


@contextmanager
def _older_objects_aside() -> Iterator[None]:
    """Let the garbage collector list, within the block, only objects made there. All others are many and take long."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _held_bytes() -> int:
    """Return the bytes of all tensors that the garbage collector lists, each storage once."""
    gc.collect()
    storages = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), Tensor) and thing.layout == torch.strided:
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _as_json(description: Any) -> str:
    try:
        return json.dumps(description, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Finding("describe_state", expected="JSON types", found=f"{shown(description)}: {error}") from None
