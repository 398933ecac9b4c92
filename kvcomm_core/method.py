"""Bases of methods. Each method is one way to obtain the KV of a prompt.

The engine times every method on the same code path. The method prepares and plans: it says how many of the prompt's
first tokens it can supply. It writes their KV into the buffer, and the engine runs the remaining tokens through the
model, with those of the supplied ones that the plan wants recomputed, and reads the first token of the answer. After
the answer is decoded, the method learns what it keeps for later.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor

from kvcomm_core.config import NoReuseReason
from kvcomm_core.kv import KV, KVBuffer
from kvcomm_core.pools.anchor_pools import AnchorPools
from kvcomm_core.recompute import Pending, Recomputed, positions_outside
from kvcomm_core.stopwatch import Stopwatch
from kvcomm_core.template import Prompt, Span, Template, TokenIds

Mode = Literal["dense", "reuse", "partial"]


@dataclass(frozen=True, slots=True)
class AgentTurn:
    """One agent's turn in one request, as a method sees it."""

    name: str
    """The template's name, as registered."""
    template: Template
    answers: str
    """The placeholder that the answer fills."""
    prompt: Prompt
    stopwatch: Stopwatch


@dataclass(frozen=True, slots=True)
class NoReuse:
    """Why a turn does not reuse everything."""

    reason: NoReuseReason
    placeholder: str
    """The first placeholder, in prompt order, to which the reason applies."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The way in which a method intends to obtain a prompt's KV."""

    mode: Mode
    supplied: int = 0
    """Number of the prompt's first tokens that the method fills, fewer than all; the engine runs the rest."""
    reused_text_tokens: int = 0
    """Prompt tokens in text segments whose KV is not computed in this turn."""
    reused_placeholder_tokens: int = 0
    """Prompt tokens in placeholders whose KV is not computed in this turn; base KV that this turn makes is computed."""
    recomputed_tokens: float = 0.0
    """Prompt tokens recomputed inside the assembled prompt, in whole-model equivalents."""
    estimated_tokens: int = 0
    """Prompt tokens whose KV is taken over from another context and not recomputed; the exact leading text does not
    count."""
    no_reuse: NoReuse | None = None
    """Why a method with pools does not reuse everything; None if it does, and for a method without pools."""
    entropy_ratio: float | None = None
    """H(w) / log |A| of the criterion (paper, Eq. 5), the largest over the turn's placeholders; None if it judged none
    by entropy."""
    nearest_distance: float | None = None
    """Relative distance of the nearest candidate anchor, the largest over the turn's placeholders; None if samples were
    not compared."""
    judged_kl: float | None = None
    """KL, in nats, that a criterion for whole turns compared with what it allows (``kvcomm_core/gates``); None without
    such a criterion, or if it could not judge."""
    anchors: int | None = None
    """Anchors in the pools of this turn's placeholders; None for a method without pools."""
    pool_bytes: int | None = None
    """Bytes of all pools when the request opened; None for a method without pools."""
    pending: Pending | None = None
    """The supplied tokens that the engine recomputes, in the pass in which it runs the rest; None if there are none,
    and once it is done."""

    @property
    def falls_back(self) -> bool:
        """Whether the turn of a method with pools took over no more than the exact leading text, so that all its KV is
        true. Known once the plan is filled."""
        return self.mode == "dense" or (self.no_reuse is not None and self.estimated_tokens == 0)

    @classmethod
    def taking_over(
        cls,
        prompt: Prompt,
        spans: Iterable[Span],
        *,
        no_reuse: NoReuse | None = None,
        anchors: int | None = None,
        pool_bytes: int | None = None,
    ) -> "Plan":
        """Return the plan of a method that takes over the KV of these spans from another context, and recomputes all
        that lies in none of them, without base KV of its own.

        The engine runs the prompt's last token in any case. With nothing to take over, the plan is dense. If there is a
        reason for ``no_reuse``, it is partial.
        """
        last = len(prompt) - 1
        kept = [span.before(last) for span in spans]
        reused = sum(map(len, kept))
        if not reused:
            return cls("dense", no_reuse=no_reuse, anchors=anchors, pool_bytes=pool_bytes)
        in_holes = sum(span.overlap(hole) for span in kept for hole in prompt.holes)
        return cls(
            mode="reuse" if no_reuse is None else "partial",
            supplied=last,
            reused_text_tokens=reused - in_holes,
            reused_placeholder_tokens=in_holes,
            pending=Pending(positions_outside(kept, last)) if reused < last else None,
            estimated_tokens=reused,
            no_reuse=no_reuse,
            anchors=anchors,
            pool_bytes=pool_bytes,
        )


@dataclass(frozen=True, slots=True)
class Decoded:
    """A finished turn: the KV of its whole prompt and whole answer, as views into the engine's buffer."""

    plan: Plan
    prompt_kv: KV
    """Keys at their positions."""
    answer_ids: TokenIds
    answer_kv: KV
    """Keys at positions from ``len(prompt)``."""
    first_logits_V: Tensor
    """Logits of the answer's first token, float32."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What a method found out about a finished turn by obtaining its KV in the other way, too."""

    tokens: int = 0
    """Tokens run through the model, in whole-model equivalents, rounded up."""
    kl: float | None = None
    """KL(dense || reuse) of the next token, in nats; None if the two were not compared."""


class Session(ABC):
    """A method's state within one request."""

    @abstractmethod
    def plan(self, turn: AgentTurn) -> Plan:
        """Decide how to obtain this turn's KV."""

    def fill(self, turn: AgentTurn, plan: Plan, row: KVBuffer) -> Plan:  # noqa: ARG002
        """Write the KV of the first ``plan.supplied`` tokens into ``row``. Those that are pending may be left out,
        unless a selection compares them. The engine does not call this if none are supplied.

        Return the plan, updated with what is known now. By default nothing is written.
        """
        return plan

    def account(self, turn: AgentTurn, plan: Plan, done: Recomputed) -> Plan:  # noqa: ARG002
        """Return the filled plan with the counts of what was ``done``, which is not pending any more. By default only
        the recomputed tokens are counted. The engine does not call this if nothing is supplied."""
        return replace(plan, pending=None, recomputed_tokens=plan.recomputed_tokens + done.computed_tokens)

    def audit(self, turn: AgentTurn, decoded: Decoded) -> Audit:  # noqa: ARG002
        """Compare a finished turn with the other way of obtaining its KV, before learning from it; by default not."""
        return Audit()

    def learn(self, turn: AgentTurn, decoded: Decoded) -> None:  # noqa: B027
        """Keep, as copies, what later turns may reuse; by default nothing."""

    def next_round(self) -> None:  # noqa: B027
        """Rename the placeholders filled so far with ``in_next_round``; by default none are kept."""

    def close(self) -> None:  # noqa: B027
        """Publish what this request learnt; by default nothing. The engine does not call this if the request failed."""


class Method(ABC):
    """A method with its state across requests."""

    needs_answer_kv: bool = False
    """Whether ``learn`` reads the KV of the answer's last token. If length cut the answer off, that KV costs a
    forward pass of its own."""

    pools: AnchorPools | None = None
    """The anchor pools; None for a method without any."""

    @property
    def pool_bytes(self) -> int | None:
        """Bytes of everything learnt from requests; None for a method that learns nothing."""
        return None if self.pools is None else self.pools.nbytes

    def register(self, name: str, template: Template, filler: TokenIds) -> None:  # noqa: B027
        """Prepare for a template; by default nothing is needed. ``filler`` holds the neutral token ids that fill its
        holes."""

    @abstractmethod
    def open(self) -> Session:
        """Begin a request."""

    def prepare(self, sessions: Sequence[Session], turns: Sequence[AgentTurn]) -> list[int]:  # noqa: ARG002
        """Do, before planning, the work that the turns of a batch, one per session, can share; by default none. Return
        the tokens that this ran through the model, for each turn."""
        return [0] * len(turns)

    def look_ahead(self, sessions: Sequence[Session], name: str, template: Template) -> None:  # noqa: B027
        """Begin, before the answers of a turn are decoded, what may run beside that: the engine expects these sessions
        to take their next turn with the template ``name``. They need not. By default nothing is begun."""

    def prepare_learning(self, sessions: Sequence[Session], turns: Sequence[AgentTurn]) -> list[int]:  # noqa: ARG002
        """Do the same after decoding, before the sessions learn from the turns."""
        return [0] * len(turns)

    def describe_state(self) -> tuple[dict[str, Any], list[Tensor]]:
        """Describe what was learnt from requests, so that a file can hold it: JSON types, and the tensors to which they
        refer by index. By default a method learns nothing."""
        return {}, []

    def restore(self, description: dict[str, Any], tensors: Sequence[Tensor]) -> None:  # noqa: B027
        """Replace what was learnt with what ``describe_state`` described. The templates are registered already."""


def answer_placeholder(agent_id: str) -> str:
    """Return the placeholder that an agent's answer fills in the prompts of its readers."""
    return f"agent_{agent_id}_current"


def condition_placeholder(agent_id: str) -> str:
    """Return the placeholder that the result of an agent's tool fills in the prompts of its readers."""
    return f"condition_{agent_id}_current"


_OF_A_ROUND = re.compile(r"(.+)_(?:current|history_([1-9]\d*))")


def in_next_round(placeholder: str) -> str:
    """Return the placeholder that holds this one's content a round later.

    ``X_current`` becomes ``X_history_1``, ``X_history_<t>`` becomes ``X_history_<t + 1>``; any other, such as
    ``user_question``, keeps its name.
    """
    found = _OF_A_ROUND.fullmatch(placeholder)
    return placeholder if found is None else f"{found[1]}_history_{int(found[2] or 0) + 1}"


def distinct(placeholders: Sequence[str]) -> list[str]:
    """Return each placeholder once, in order of first occurrence."""
    return list(dict.fromkeys(placeholders))
