"""The engine: agents that share one model take turns, and a method supplies the KV of their prompts.

    model = load_model("embedded")
    engine = Engine(model, KVComm(model, header_ids, KVCommConfig()), filler_ids)
    engine.register("1", template)
    with engine.open() as request:
        request.provide("user_question", question_ids)
        turn = request.take_turn("1", max_new_tokens=64)

A turn's answer fills ``agent_<id>_current`` for later turns. ``request.next_round()`` turns current content into
history, so that agents can take turns again. With ``engine.open_batch`` and ``engine.take_turns`` several requests move
through the agents as a batch, in step. They see the pools as they were when the batch opened, and publish in order when
it closes. In ``kvcomm_core.rows`` each request moves on by itself.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from kvcomm_core.batch import Batch
from kvcomm_core.decode import StopReason
from kvcomm_core.gpu.captured_steps import CAPTURE, room_for
from kvcomm_core.kv import KVBuffer
from kvcomm_core.method import AgentTurn, Method, Plan, Session, answer_placeholder, in_next_round
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.stopwatch import Stopwatch
from kvcomm_core.template import Prompt, Template, TokenIds, shared_prefix
from kvcomm_core.turn import ComputedTokens, Turn


class Request:
    """One item on its way through the agents. It publishes what it learnt when its block ends without error."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self.session: Session = engine.method.open()
        self.values: dict[str, TokenIds] = {}
        self.sequences: list[TokenIds] = []
        """Each prompt so far, with its answer."""
        self.publish_s: float | None = None
        """Seconds that publishing took; None before it is done."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()

    def close(self) -> None:
        """Publish what this request learnt. Its block does so at its end, unless it failed."""
        stopwatch = Stopwatch(self._engine.model.layout.devices)
        self.session.close()
        self.publish_s = stopwatch.seconds()

    def provide(self, placeholder: str, token_ids: TokenIds) -> None:
        """Fill a placeholder, once per round. It is an input such as ``user_question``, or a tool's result: for
        agent 2, ``condition_2_current``, provided after that agent's turn and before its first reader's turn."""
        if placeholder in self.values:
            raise ValueError(f"placeholder {placeholder!r} is filled already")
        self.values[placeholder] = token_ids

    def take_turn(self, name: str, *, max_new_tokens: int) -> Turn:
        """Take a turn for this request alone; see :meth:`Engine.take_turns`."""
        return self._engine.take_turns([self], name, max_new_tokens=max_new_tokens)[0]

    def next_round(self) -> None:
        """Begin another round. Each ``X_current`` becomes ``X_history_1`` and each ``X_history_<t>`` becomes
        ``X_history_<t + 1>``, with its KV. Other placeholders, such as ``user_question``, stay as they are."""
        self.values = {in_next_round(placeholder): ids for placeholder, ids in self.values.items()}
        self.session.next_round()


class Engine:
    """The agents' templates, one model, one method."""

    def __init__(self, model: LoadedModel, method: Method, filler_ids: TokenIds) -> None:
        """Create an engine. ``filler_ids`` are the neutral tokens that fill the holes when a template's base KV is
        computed."""
        self.model = model
        self.method = method
        self.filler_ids = filler_ids
        self.templates: dict[str, Template] = {}
        self.answers: dict[str, str] = {}
        """The placeholder that the answers to each template fill."""
        self._storage: KVBuffer | None = None

    def register(self, name: str, template: Template, *, answers: str | None = None) -> None:
        """Add a template, once, before its first turn.

        Its answers fill the placeholder ``answers``, by default ``agent_<name>_current``, so an agent's template is
        named after the agent's id. An agent whose prompt changes between rounds has several templates, with names of
        their own and the same ``answers``.
        """
        if name in self.templates:
            raise ValueError(f"template {name!r} is registered already")
        self.method.register(name, template, self.filler_ids)
        self.templates[name] = template
        self.answers[name] = answers or answer_placeholder(name)

    def open(self) -> Request:
        """Begin a request; use it as a context manager."""
        return Request(self)

    @contextmanager
    def open_batch(self, size: int) -> Iterator[list[Request]]:
        """Begin ``size`` requests that see the same pools. Publish them in order at the end, or none if the block
        fails."""
        requests = [Request(self) for _ in range(size)]
        yield requests
        for request in requests:
            request.close()

    def prompts_of(self, requests: Sequence[Request], name: str) -> list[Prompt]:
        """Return the prompts that a turn with this template would have now."""
        return [self.templates[name].fill(request.values) for request in requests]

    def take_turns(
        self,
        requests: Sequence[Request],
        name: str,
        *,
        max_new_tokens: int,
        answers: Sequence[TokenIds] | None = None,
        keep_kv: Collection[int] = (),
    ) -> list[Turn]:
        """Take a turn with one template in each request: prefill the prompts by the method, decode the answers
        greedily.

        ``answers``, one per request, replace decoding, for timings that need answers of a given length and for methods
        that are compared on the same prompts. If the method reads their KV, a forward pass computes it: one for all
        prompts if they are equally long, else one for each. ``keep_kv`` lists the indices of the requests whose turns
        get ``prompt_kv``, copied when the turn is over and timed.
        """
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {max_new_tokens}; allowed: 1 or more")
        if answers is not None:
            max_new_tokens = max(max_new_tokens, *map(len, answers))
        model, template, answered = self.model, self.templates[name], self.answers[name]
        if any(answered in request.values for request in requests):
            raise ValueError(f"placeholder {answered!r} is filled already; allowed: one answer per round")
        sessions = [request.session for request in requests]

        stopwatch = Stopwatch(model.layout.devices)
        prompts = self.prompts_of(requests, name)
        model.require_context(max(map(len, prompts)) + max_new_tokens)
        turns = [AgentTurn(name, template, answered, prompt, stopwatch) for prompt in prompts]
        with stopwatch.phase("base_kv"):
            base_kv_tokens = self.method.prepare(sessions, turns)
        plans = [session.plan(turn) for session, turn in zip(sessions, turns, strict=True)]
        batch = Batch(model, prompts, plans, self._buffer(prompts, max_new_tokens))
        for index, (session, turn) in enumerate(zip(sessions, turns, strict=True)):
            if plans[index].supplied:
                plans[index] = session.fill(turn, plans[index], batch.buffer.row(batch.rows[index]))
        with stopwatch.phase("prefill"):
            logits_BV = batch.prefill()
            first_ids = logits_BV.argmax(dim=-1).tolist()
        ttft_s = stopwatch.seconds()
        for index, (session, turn) in enumerate(zip(sessions, turns, strict=True)):
            if plans[index].supplied:
                plans[index] = session.account(turn, plans[index], batch.recomputed[index])

        if (following := self._after(name)) is not None:
            self.method.look_ahead(sessions, following, self.templates[following])
        if answers is None:
            decoded = batch.decode(first_ids, max_new_tokens)
        else:
            decoded = batch.follow(answers, needs_kv=self.method.needs_answer_kv)
        decode_s = stopwatch.seconds() - ttft_s

        with stopwatch.phase("store"):
            learning_tokens = self.method.prepare_learning(sessions, turns)
            if self.method.needs_answer_kv:
                batch.complete(decoded)
            audits = []
            for index, (session, turn) in enumerate(zip(sessions, turns, strict=True)):
                finished = batch.decoded(index, decoded[index], logits_BV[index])
                audits.append(session.audit(turn, finished))
                session.learn(turn, finished)
        phases_s = stopwatch.phases()
        exact_prefix_tokens = [self.exact_prefix(*pair) for pair in zip(requests, prompts, strict=True)]
        for request, prompt, answer in zip(requests, prompts, decoded, strict=True):
            request.provide(answered, answer.token_ids)
            request.sequences.append(prompt.token_ids + answer.token_ids)
        return [
            Turn(
                name=name,
                prompt=prompts[index],
                answer_ids=decoded[index].token_ids,
                stop_reason=decoded[index].stop_reason,
                first_logits_V=logits_BV[index],
                plan=plans[index],
                batch_size=len(requests),
                ttft_s=ttft_s,
                decode_s=decode_s,
                phases_s=phases_s,
                computed=self.computed_tokens(
                    prompts[index],
                    plans[index],
                    base_kv=base_kv_tokens[index],
                    learning=learning_tokens[index] + audits[index].tokens,
                    stop_reason=decoded[index].stop_reason,
                ),
                exact_prefix_tokens=exact_prefix_tokens[index],
                audit_kl=audits[index].kl,
                prompt_kv=batch.assembled_kv(index).copy() if index in keep_kv else None,
            )
            for index in range(len(requests))
        ]

    def _after(self, name: str) -> str | None:
        """Return the template that was registered after this one: most likely the next turn's. After the last comes
        the first, of another round or item."""
        names = list(self.templates)
        return names[(names.index(name) + 1) % len(names)] if len(names) > 1 else None

    def computed_tokens(
        self, prompt: Prompt, plan: Plan, *, base_kv: int, learning: int, stop_reason: StopReason
    ) -> ComputedTokens:
        """Return the account of a turn. An answer cut off by length needs one more pass for the KV of its last token,
        if the method reads it."""
        last = self.method.needs_answer_kv and stop_reason == "length"
        return ComputedTokens(len(prompt) - plan.supplied, plan.recomputed_tokens, base_kv, learning + last)

    def exact_prefix(self, request: Request, prompt: Prompt) -> int:
        """Return the prompt tokens that an exact prefix cache would have reused."""
        known = (*(template.texts[0] for template in self.templates.values()), *request.sequences)
        return max(shared_prefix(prompt.token_ids[:-1], token_ids) for token_ids in known)

    def _buffer(self, prompts: Sequence[Prompt], max_new_tokens: int) -> KVBuffer:
        """Return storage for this turn. It is kept from turn to turn because fresh memory costs a page fault every 4
        KiB."""
        rows, capacity = len(prompts), max(map(len, prompts)) + max_new_tokens
        if self.model.device.type in CAPTURE:  # so that graphs find the widths that they were captured for
            capacity = room_for(capacity)
        if self._storage is None or self._storage.rows < rows or self._storage.capacity < capacity:
            held = (0, 0) if self._storage is None else (self._storage.rows, self._storage.capacity)
            self._storage = None  # free the old storage before allocating the new
            self._storage = KVBuffer(self.model.layout, max(rows, held[0]), max(capacity, held[1]))
        buffer = KVBuffer.within(self._storage, slice(0, rows), capacity)
        buffer.forget()
        return buffer
