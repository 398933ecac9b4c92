"""Turns of several requests side by side, each in a row of its own: none waits for another.

    rows = Rows(engine, 8)
    rows.begin(request, "1", max_new_tokens=64)
    for request, turn in rows.step():
        ...

A step is one pass over all rows. It prefills the turns that have begun since the last step, and gives every row the
next token of its answer. It returns the turns that are over, whose rows are free for other turns, of the same requests
or of others. So the rows of a step may belong to different agents, and no row waits for the longest answer. Beside a
prompt, a row that decodes costs about as much as one more token of the prompt. The tokens of a row stand in the slots
of their positions.

What runs beside a turn follows from when turns begin and how long answers are, never from the time that anything
takes. So the same calls give the same bits.
"""

from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kvcomm_core.config import require
from kvcomm_core.decode import StopReason, advance_rows, to_logits
from kvcomm_core.engine import Engine, Request
from kvcomm_core.kv import KVBuffer
from kvcomm_core.method import AgentTurn, Decoded, Plan
from kvcomm_core.recompute import NOTHING, recompute_and_advance
from kvcomm_core.stopwatch import Stopwatch
from kvcomm_core.template import TokenIds
from kvcomm_core.turn import Turn

_CAPACITY_STEP = 64
"""The buffer grows by multiples of as many slots, so that it is rarely copied."""


@dataclass(slots=True)
class _Row:
    """A turn under way."""

    request: Request
    name: str
    limit: int
    """Maximum length of the answer."""
    keeps_kv: bool
    given: TokenIds | None
    """The answer, if it is given; None if it is decoded."""
    beside: int = 1
    turn: AgentTurn | None = None
    plan: Plan = field(default_factory=lambda: Plan("dense"))
    base_kv_tokens: int = 0
    pending: TokenIds = ()
    """The tokens to run next."""
    filled: int = 0
    """Tokens of the row that have KV."""
    first_logits_V: Tensor | None = None
    """None until the first token is known."""
    answer: list[int] = field(default_factory=list)
    stop_reason: StopReason | None = None
    """None while the answer goes on."""
    needs_kv: bool = False
    """Whether the method reads the KV of tokens of the answer that are still pending: the last one of an answer cut off
    by length, or all of one that is given."""
    began_s: float = 0.0
    ttft_s: float = 0.0
    decode_s: float = 0.0
    store_s: float = 0.0
    ttft_share_s: float = 0.0
    decode_share_s: float = 0.0

    @property
    def of(self) -> AgentTurn:
        """The turn, which has begun."""
        assert self.turn is not None  # noqa: S101 - a row gets its turn when it begins
        return self.turn

    @property
    def is_over(self) -> bool:
        return self.stop_reason is not None and not self.needs_kv


class Rows:
    """Room for as many turns as there are rows, on one engine."""

    def __init__(self, engine: Engine, count: int) -> None:
        """``count`` is 1 or more."""
        require(count >= 1, "count", count, "1 or more")
        self.engine = engine
        self._rows: list[_Row | None] = [None] * count
        """The turns under way, by their row in the buffer."""
        self._begun: list[_Row] = []
        """Turns that have no row yet."""
        self._buffer = KVBuffer(engine.model.layout, count, 0)
        self._clock = Stopwatch(engine.model.layout.devices)
        self._clock.stop()
        self._last_s = 0.0

    @property
    def free(self) -> int:
        """The number of turns that may begin now."""
        return self._rows.count(None) - len(self._begun)

    def begin(
        self,
        request: Request,
        name: str,
        *,
        max_new_tokens: int,
        answer: TokenIds | None = None,
        keep_kv: bool = False,
    ) -> None:
        """Let a request take its turn with a template from the next step on. The arguments are those of
        :meth:`Engine.take_turns`. Raise ``ValueError`` if no row is free, or the request is under way."""
        require(max_new_tokens >= 1, "max_new_tokens", max_new_tokens, "1 or more")
        if not self.free:
            raise ValueError(f"all {len(self._rows)} rows are taken; allowed: one turn in each")
        if any(row is not None and row.request is request for row in (*self._rows, *self._begun)):
            raise ValueError("the request takes a turn already; allowed: one at a time")
        filled = self.engine.answers[name]
        if filled in request.values:
            raise ValueError(f"placeholder {filled!r} is filled already; allowed: one answer per round")
        limit = max(max_new_tokens, len(answer or ()))
        self._begun.append(_Row(request, name, limit, keep_kv, answer))

    @torch.inference_mode()
    def step(self) -> list[tuple[Request, Turn]]:
        """Prefill the turns that have begun, and give each row one token. Return the turns that are over, in the order
        of their rows, which are free again."""
        self._clock.go_on()
        self._begin()
        self._close_gaps()
        self._advance()
        over = self._end()
        self._clock.stop()
        return over

    def _begin(self) -> None:
        """Give each turn that has begun the lowest free row, in their order, and let its method fill it."""
        begun, self._begun = self._begun, []
        if not begun:
            return
        engine, model, began_s = self.engine, self.engine.model, self._last_s
        for row in begun:
            template = engine.templates[row.name]
            prompt = template.fill(row.request.values)
            model.require_context(len(prompt) + row.limit)
            watch = Stopwatch(model.layout.devices, self._clock)
            row.turn, row.began_s = AgentTurn(row.name, template, engine.answers[row.name], prompt, watch), began_s
        self._make_room(max(len(row.of.prompt) + row.limit for row in begun))
        with ExitStack() as phases:
            for row in begun:
                phases.enter_context(row.of.stopwatch.phase("base_kv"))
            tokens = engine.method.prepare([row.request.session for row in begun], [row.of for row in begun])
        share_s = self._lap() / len(begun)
        for row, row.base_kv_tokens in zip(begun, tokens, strict=True):
            place = self._rows.index(None)
            self._rows[place] = row
            buffer = self._buffer.row(place)
            buffer.forget()
            self._fill(row, buffer)
            row.ttft_share_s = share_s + self._lap()
        for row in begun:
            row.beside = len(self._rows) - self._rows.count(None)

    def _fill(self, row: _Row, buffer: KVBuffer) -> None:
        """Write what the method supplies. Where some of it is recomputed, all but the prompt's last token runs now, and
        that one beside the other rows."""
        session, turn = row.request.session, row.of
        plan, ids = session.plan(turn), turn.prompt.token_ids
        row.filled = plan.supplied
        if plan.supplied:
            plan, done = session.fill(turn, plan, buffer), NOTHING
            if plan.pending:
                with turn.stopwatch.phase("recompute"):
                    model = self.engine.model
                    _, done = recompute_and_advance(model, ids[:-1], buffer, plan.supplied, plan.pending)
                row.filled = len(ids) - 1
            plan = session.account(turn, plan, done)
        row.plan, row.pending = plan, ids[row.filled :]

    def _advance(self) -> None:
        """Run what is to run in each row that has a turn, and choose the next token; these rows are the first ones."""
        model = self.engine.model
        rows = [row for row in self._rows if row is not None]
        if not rows:
            return
        buffer = KVBuffer.within(self._buffer, slice(0, len(rows)), self._buffer.capacity)
        with ExitStack() as phases:
            for row in rows:
                if row.first_logits_V is None:
                    phases.enter_context(row.of.stopwatch.phase("prefill"))
            pending = [row.pending for row in rows]
            logits_BV = to_logits(model, advance_rows(model, pending, buffer, starts=[row.filled for row in rows]))
            ids = logits_BV.argmax(dim=-1).tolist()
        each_s = self._lap() / sum(map(len, pending))
        for row, token_id, logits_V in zip(rows, ids, logits_BV, strict=True):
            share_s = each_s * len(row.pending)
            row.filled += len(row.pending)
            if row.needs_kv:
                row.needs_kv = False
                row.store_s += share_s
                continue
            if row.first_logits_V is None:
                row.ttft_share_s += share_s
            else:
                row.decode_share_s += share_s
            self._take(row, logits_V, token_id)

    def _take(self, row: _Row, logits_V: Tensor, token_id: int) -> None:
        """Take the token that was chosen after what has run in a row."""
        since_s = self._last_s - row.began_s
        if row.first_logits_V is None:
            row.first_logits_V = logits_V.clone()
            row.ttft_s = since_s
        row.decode_s = since_s - row.ttft_s
        row.pending = (token_id,)
        if row.given is not None:
            row.answer, row.pending, row.stop_reason = list(row.given), row.given, "given"
            row.needs_kv = self.engine.method.needs_answer_kv and bool(row.given)
            return
        if token_id in self.engine.model.eos_ids:
            row.stop_reason = "eos"
            return
        row.answer.append(token_id)
        if len(row.answer) == row.limit:
            row.stop_reason = "length"
            row.needs_kv = self.engine.method.needs_answer_kv

    def _end(self) -> list[tuple[Request, Turn]]:
        """Let the method learn from the turns that are over, and free their rows."""
        over = [(place, row) for place, row in enumerate(self._rows) if row is not None and row.is_over]
        if not over:
            return []
        rows = [row for _, row in over]
        tokens = self.engine.method.prepare_learning([row.request.session for row in rows], [row.of for row in rows])
        share_s = self._lap() / len(rows)
        ended = []
        for (place, row), learning in zip(over, tokens, strict=True):
            row.store_s += share_s
            ended.append((row.request, self._learn(row, place, learning)))
            self._rows[place] = None
        return ended

    def _learn(self, row: _Row, place: int, learning: int) -> Turn:
        engine, turn, request, answer_ids = self.engine, row.of, row.request, tuple(row.answer)
        assert row.first_logits_V is not None and row.stop_reason is not None  # noqa: S101, PT018 - it is over
        length = len(turn.prompt)
        decoded = Decoded(
            plan=row.plan,
            prompt_kv=self._buffer.view(0, length, place),
            answer_ids=answer_ids,
            answer_kv=self._buffer.view(length, length + len(answer_ids), place),
            first_logits_V=row.first_logits_V,
        )
        audit = request.session.audit(turn, decoded)
        request.session.learn(turn, decoded)
        row.store_s += self._lap()
        self._clock.stop()
        exact_prefix_tokens = engine.exact_prefix(request, turn.prompt)
        request.provide(turn.answers, answer_ids)
        request.sequences.append(turn.prompt.token_ids + answer_ids)
        made = Turn(
            name=row.name,
            prompt=turn.prompt,
            answer_ids=answer_ids,
            stop_reason=row.stop_reason,
            first_logits_V=row.first_logits_V,
            plan=row.plan,
            batch_size=row.beside,
            ttft_s=row.ttft_s,
            decode_s=row.decode_s,
            ttft_share_s=row.ttft_share_s,
            decode_share_s=row.decode_share_s,
            phases_s=turn.stopwatch.phases() | {"store": row.store_s},
            computed=engine.computed_tokens(
                turn.prompt,
                row.plan,
                base_kv=row.base_kv_tokens,
                learning=learning + audit.tokens,
                stop_reason=row.stop_reason,
            ),
            exact_prefix_tokens=exact_prefix_tokens,
            audit_kl=audit.kl,
            prompt_kv=self._buffer.view(0, length - 1, place).copy() if row.keeps_kv else None,
        )
        self._clock.go_on()
        return made

    def _close_gaps(self) -> None:
        """Move the last turns into the free rows before them, so that no free row runs."""
        for place in range(len(self._rows)):
            last = max((number for number, row in enumerate(self._rows) if row is not None), default=0)
            row = self._rows[last]
            if self._rows[place] is None and row is not None and place < last:
                self._buffer.row(place).forget()
                self._buffer.view(0, row.filled, last).copy_to(self._buffer.view(0, row.filled, place))
                self._rows[place], self._rows[last] = row, None

    def _make_room(self, slots: int) -> None:
        """Let the buffer have at least so many slots."""
        if slots <= self._buffer.capacity:
            return
        old, capacity = self._buffer, -(-slots // _CAPACITY_STEP) * _CAPACITY_STEP
        self._buffer = KVBuffer(self.engine.model.layout, len(self._rows), capacity)
        for place, row in enumerate(self._rows):
            if row is not None:
                old.view(0, row.filled, place).copy_to(self._buffer.view(0, row.filled, place))

    def _lap(self) -> float:
        """Return the seconds of work since the last call."""
        last_s, self._last_s = self._last_s, self._clock.seconds()
        return self._last_s - last_s
