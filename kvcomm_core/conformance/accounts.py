"""Checks of what a method says about its turns."""

import math
import random
from collections.abc import Sequence
from typing import Any, cast, get_args

from kvcomm_core.config import NoReuseReason
from kvcomm_core.conformance.cases import FIRST_QUESTION_TOKEN, ROUNDS, Case, place_of
from kvcomm_core.conformance.finding import Finding
from kvcomm_core.conformance.model_runs import Pass, watch, whole_model_tokens
from kvcomm_core.conformance.small_models import LAYERS, VOCABULARY
from kvcomm_core.method import AgentTurn, Method, Session
from kvcomm_core.template import Template, TokenIds
from kvcomm_core.turn import Turn

_CONTENTS = (0, 1, 0, 2, 1)
"""Requests by the seed of their content, so that some repeat another."""


def check_accounts(case: Case) -> str:
    """Count the tokens that run through the model, and compare them with what each turn says of its prompt. Within a
    request all tokens differ, so that each one tells where it belongs."""
    engine = case.engine()
    watched = _Watched(engine.method)
    engine.method = cast("Method", watched)
    modes: list[str] = []
    for number, seed in enumerate(_CONTENTS):
        contents = _distinct_contents(seed)
        with engine.open() as request:
            request.provide("user_question", contents.pop())
            pool_bytes = watched.inner.pool_bytes
            for index, names in enumerate(ROUNDS):
                if index:
                    request.next_round()
                for name in names:
                    answer = contents.pop()
                    with watch(case.model) as passes:
                        watched.passes = passes
                        [turn] = engine.take_turns([request], name, max_new_tokens=1, answers=[answer])
                    where = place_of(number, len(modes) % sum(map(len, ROUNDS)))
                    modes.append(turn.mode)
                    _require_plan(where, turn, engine.templates[name], pool_bytes)
                    given = len(answer) if watched.inner.needs_answer_kv else 0
                    _require_counts(where, turn, passes, watched.before_learning, given)
    reusing = sum(mode != "dense" for mode in modes)
    return f"{reusing} of {len(modes)} turns reuse"


def _distinct_contents(seed: int) -> list[TokenIds]:
    """Return the answers of a request's turns and, last, its question. No two of their tokens are the same."""
    tokens = random.Random(seed).sample(range(FIRST_QUESTION_TOKEN, VOCABULARY), 8 + 3 * sum(map(len, ROUNDS)))
    return [*(tuple(tokens[start : start + 3]) for start in range(8, len(tokens), 3)), tuple(tokens[:8])]


def _require_plan(where: str, turn: Turn, template: Template, pool_bytes: int | None) -> None:
    """Raise ``Finding`` unless the plan's numbers are possible, and it says why it does not reuse."""
    plan, prompt = turn.plan, turn.prompt
    ranges: dict[str, int] = {
        "supplied": len(prompt) - 1,
        "reused_text_tokens": sum(map(len, prompt.texts)),
        "reused_placeholder_tokens": sum(map(len, prompt.holes)),
        "recomputed_tokens": 2 * len(prompt),  # a method may try the prompt in two ways before it decides
        "estimated_tokens": plan.supplied,
    }
    for name, most in ranges.items():
        value = getattr(plan, name)
        if not (0 <= value <= most and math.isfinite(value)):
            raise Finding(where, expected=f"{name} from 0 to {most}", found=f"{value}")
    if (plan.mode == "dense") != (plan.supplied == 0):
        expected = "mode dense if the method supplies nothing, and only then"
        raise Finding(where, expected=expected, found=f"mode {plan.mode} with supplied={plan.supplied}")
    learns = pool_bytes is not None
    if plan.pool_bytes != pool_bytes:
        expected = f"pool_bytes={pool_bytes}, as the method had when the request opened"
        raise Finding(where, expected=expected, found=f"pool_bytes={plan.pool_bytes}")
    why = plan.no_reuse
    if learns and plan.mode != "reuse" and why is None and template.holes:
        expected = "no_reuse, since the method has pools (its pool_bytes is not None)"
        raise Finding(where, expected=expected, found=f"mode {plan.mode} without a reason")
    if why is not None and plan.mode == "reuse":
        raise Finding(where, expected="no_reuse=None in mode reuse", found=f"no_reuse={why}")
    if why is not None and (why.reason not in get_args(NoReuseReason) or why.placeholder not in template.holes):
        expected = f"a reason of {', '.join(get_args(NoReuseReason))}, and a placeholder of {template.holes}"
        raise Finding(where, expected=expected, found=f"{why.reason}, {why.placeholder}")


def _require_counts(where: str, turn: Turn, passes: list[Pass], before_learning: int, given: int) -> None:
    """Raise ``Finding`` unless the turn accounts for each token that ran. ``given`` tokens ran for the answer."""
    computed, length = turn.computed, len(turn.prompt)
    ran = whole_model_tokens(passes, LAYERS) - given
    kinds = f"prefill {computed.prefill}, recompute {computed.recompute:g}, base KV {computed.base_kv}"
    kinds += f", learning {computed.learning}"
    if not math.isclose(ran, computed.total, abs_tol=1e-6):
        found = f"{computed.total:g} in the turn's account ({kinds})"
        raise Finding(where, expected=f"{ran:g} computed tokens, which ran through the model", found=found)
    reused = turn.plan.reused_text_tokens + turn.plan.reused_placeholder_tokens
    if reused + computed.prefill > length:
        expected = f"at most {length - computed.prefill} reused tokens, as the engine ran {computed.prefill}"
        raise Finding(where, expected=f"{expected} of {length}", found=f"{reused}")
    whole = {token for one in passes[:before_learning] if one.is_whole for token in one.token_ids}
    in_prompt = len(whole & set(turn.prompt.token_ids))
    if reused > length - in_prompt:
        expected = (
            f"at most {length - in_prompt} reused tokens, as {in_prompt} of the prompt's {length} ran in this turn"
        )
        raise Finding(where, expected=expected, found=f"{reused} (computed: {kinds})")
    if reused + computed.total - computed.learning < length - 1e-6:
        expected = f"all {length} tokens of the prompt to be reused or computed"
        raise Finding(where, expected=expected, found=f"{reused} reused and computed: {kinds}")


class _Watched:
    """A method that notes how many passes had begun when the engine asked it to prepare its learning."""

    def __init__(self, inner: Method) -> None:
        self.inner = inner
        self.passes: list[Pass] = []
        self.before_learning = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def prepare_learning(self, sessions: Sequence[Session], turns: Sequence[AgentTurn]) -> list[int]:
        self.before_learning = len(self.passes)
        return self.inner.prepare_learning(sessions, turns)
