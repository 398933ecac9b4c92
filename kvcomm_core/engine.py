"""The engine: agents that share one model take turns, and a method supplies the KV of their prompts.

    model = load_model("embedded")
    engine = Engine(model, KVComm(model, header_ids, KVCommConfig()), filler_ids)
    engine.register("1", template)
    with engine.open() as request:
        request.provide("user_question", question_ids)
        turn = request.take_turn("1", max_new_tokens=64)

A turn's answer fills ``agent_<id>_current`` for the turns after it.
"""

from dataclasses import dataclass
from types import TracebackType
from typing import Self

from torch import Tensor

from kvcomm_core.decode import Answer, StopReason, advance, decode_greedily, next_logits
from kvcomm_core.kv import KVBuffer
from kvcomm_core.methods import AgentTurn, Method, Mode, answer_placeholder
from kvcomm_core.model import LoadedModel
from kvcomm_core.template import Prompt, Template, TokenIds
from kvcomm_core.timing import Stopwatch

_NOT_PART_OF_PAPER_TTFT = ("base_kv", "match")


@dataclass(frozen=True, slots=True)
class Turn:
    """One agent's turn: its prompt, its answer, how the prompt's KV came about and how long it took."""

    agent_id: str
    prompt: Prompt
    answer_ids: TokenIds
    stop_reason: StopReason
    first_logits_V: Tensor
    """Logits of the answer's first token, float32."""
    mode: Mode
    reused_text_tokens: int
    reused_placeholder_tokens: int
    anchors: int | None
    """Anchors in the pools of this turn's placeholders; None for a method without pools."""
    pool_bytes: int | None
    ttft_s: float
    """From 'the inputs of this turn are known' to 'the first token id is on the host'."""
    decode_s: float
    """From the first token id to the last."""
    phases_s: dict[str, float]
    """Seconds by phase: ``base_kv``, ``match``, ``blend`` and ``prefill`` lie within ``ttft_s``, ``store`` after."""

    @property
    def ttft_paper_s(self) -> float:
        """``ttft_s`` as the paper counts: without base KV of new placeholders and the shareability test."""
        return self.ttft_s - sum(self.phases_s.get(phase, 0.0) for phase in _NOT_PART_OF_PAPER_TTFT)


class Engine:
    """Agents with their templates, one model, one method."""

    def __init__(self, model: LoadedModel, method: Method, filler_ids: TokenIds) -> None:
        """``filler_ids``: neutral tokens to stand in the holes when a template's base KV is taken."""
        self.model = model
        self.method = method
        self.filler_ids = filler_ids
        self.templates: dict[str, Template] = {}

    def register(self, agent_id: str, template: Template) -> None:
        """Add an agent, once, before its first turn."""
        if agent_id in self.templates:
            raise ValueError(f"agent {agent_id!r} is registered already")
        self.method.register(agent_id, template, self.filler_ids)
        self.templates[agent_id] = template

    def open(self) -> "Request":
        """Begin a request; use it as a context manager."""
        return Request(self)


class Request:
    """One item on its way through the agents. What it learnt is published when its block ends without error."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._session = engine.method.open()
        self._values: dict[str, TokenIds] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._session.close()

    def provide(self, placeholder: str, token_ids: TokenIds) -> None:
        """Fill a placeholder, once per request."""
        if placeholder in self._values:
            raise ValueError(f"placeholder {placeholder!r} is filled already")
        self._values[placeholder] = token_ids

    def take_turn(self, agent_id: str, *, max_new_tokens: int) -> Turn:
        """Prefill the agent's prompt by the engine's method and decode its answer greedily."""
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {max_new_tokens}; allowed: 1 or more")
        model, template = self._engine.model, self._engine.templates[agent_id]

        stopwatch = Stopwatch(model.device)
        prompt = template.fill(self._values)
        model.require_context(len(prompt) + max_new_tokens)
        buffer = KVBuffer(model.layout, rows=1, capacity=len(prompt) + max_new_tokens)
        turn = AgentTurn(agent_id, template, prompt, buffer, stopwatch)
        prefill = self._session.prefill(turn)
        with stopwatch.phase("prefill"):
            first_logits_V = next_logits(model, prompt.token_ids[buffer.length :], buffer)
            first_id = int(first_logits_V.argmax())
        ttft_s = stopwatch.seconds()

        answer = decode_greedily(model, first_id, buffer, max_new_tokens=max_new_tokens, eos_ids=model.eos_ids)
        decode_s = stopwatch.seconds() - ttft_s

        with stopwatch.phase("store"):
            if self._engine.method.needs_answer_kv:
                self._complete(answer, buffer)
            self._session.learn(turn, prefill, answer)
        self.provide(answer_placeholder(agent_id), answer.token_ids)
        return Turn(
            agent_id=agent_id,
            prompt=prompt,
            answer_ids=answer.token_ids,
            stop_reason=answer.stop_reason,
            first_logits_V=first_logits_V,
            mode=prefill.mode,
            reused_text_tokens=prefill.reused_text_tokens,
            reused_placeholder_tokens=prefill.reused_placeholder_tokens,
            anchors=prefill.anchors,
            pool_bytes=prefill.pool_bytes,
            ttft_s=ttft_s,
            decode_s=decode_s,
            phases_s=stopwatch.phases(),
        )

    def _complete(self, answer: Answer, buffer: KVBuffer) -> None:
        """An answer cut off by length never fed its last token to the model; do so for its KV."""
        if answer.stop_reason == "length":
            advance(self._engine.model, answer.token_ids[-1:], buffer)
