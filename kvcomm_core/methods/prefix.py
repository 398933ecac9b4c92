"""``prefix``: reuse the longest exact prefix of the prompt, and prefill the rest.

This is what a server's prefix cache gives. The cache holds the leading text of every template and all that this request
has computed: its earlier prompts and answers. It is exact. It is worth as much as the system prompt is long, and more
where a prompt continues an earlier one, as from round to round. Everything after the first token that differs has
another prefix and is recomputed. KV of other requests is not kept: their questions differ.

It costs one copy of each prompt's KV, after the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kvcomm_core.decode import advance
from kvcomm_core.kv import KV, KVBuffer
from kvcomm_core.method import AgentTurn, Decoded, Method, Plan, Session
from kvcomm_core.methods.baseline_config import PrefixConfig
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import Template, TokenIds, shared_prefix


@dataclass(frozen=True, slots=True)
class Cached:
    """A sequence of tokens from position 0, and its KV."""

    token_ids: TokenIds
    kv: KV


class Prefix(Method):
    """The KV of each template's leading text; the only state across requests."""

    needs_answer_kv = True

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self.leading: list[Cached] = []

    @torch.inference_mode()
    def register(self, name: str, template: Template, filler: TokenIds) -> None:  # noqa: ARG002 - only the text counts
        """Prefill the leading text once."""
        token_ids = template.texts[0]
        if token_ids:
            buffer = KVBuffer(self._model.layout, rows=1, capacity=len(token_ids))
            advance(self._model, [token_ids], buffer)
            self.leading.append(Cached(token_ids, buffer.view(0, len(token_ids))))

    def open(self) -> "PrefixSession":
        """Open a session, which has computed nothing yet."""
        return PrefixSession(self.leading)


class PrefixSession(Session):
    """The prompts and answers of one request."""

    def __init__(self, leading: Sequence[Cached]) -> None:
        self._cached = list(leading)
        self._source: Cached | None = None
        """The entry that shares the current prompt's longest prefix."""

    def plan(self, turn: AgentTurn) -> Plan:
        """Supply the longest prefix that the cache holds; the last token always runs, for its logits."""
        prompt, texts = turn.prompt, turn.prompt.texts
        lengths = [shared_prefix(prompt.token_ids[:-1], entry.token_ids) for entry in self._cached]
        supplied = max(lengths, default=0)
        if not supplied:
            return Plan("dense")
        self._source = self._cached[lengths.index(supplied)]
        in_text = sum(min(span.stop, supplied) - span.start for span in texts if span.start < supplied)
        return Plan("partial", supplied, reused_text_tokens=in_text, reused_placeholder_tokens=supplied - in_text)

    @torch.inference_mode()
    def fill(self, turn: AgentTurn, plan: Plan, row: KVBuffer) -> Plan:
        """Copy the prefix's KV."""
        assert self._source is not None  # noqa: S101 - something is supplied
        with turn.stopwatch.phase("blend"):
            self._source.kv.slice(0, plan.supplied).copy_to(row.view(0, plan.supplied))
        return plan

    @torch.inference_mode()
    def learn(self, turn: AgentTurn, decoded: Decoded) -> None:
        """Keep the KV of the prompt and of the answer after it."""
        kv = decoded.prompt_kv.followed_by(decoded.answer_kv)
        self._cached.append(Cached(turn.prompt.token_ids + decoded.answer_ids, kv))


def build(model: LoadedModel, header_ids: TokenIds, parameters: PrefixConfig) -> Prefix:  # noqa: ARG001 - it starts at position 0
    """Return the method."""
    return Prefix(model)
