"""``prefix``: reuse the leading text segment, whose context never changes, and prefill the rest.

This is what any server's prefix cache gives. It is exact, and worth as much as the system prompt is long. Everything
after the first hole has another prefix in every request and is recomputed.
"""

# The interface of every method has arguments that this one needs not.
# ruff: noqa: ARG002

from collections.abc import Sequence

import torch

from kvcomm_core.decode import advance
from kvcomm_core.kv import KV, KVBuffer
from kvcomm_core.method import AgentTurn, Decoded, Plan, Session
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.segments import copy_kv
from kvcomm_core.template import Template, TokenIds


class Prefix:
    """The KV of each template's leading text; requests have no state, so the method is its own session."""

    needs_answer_kv = False
    pool_bytes: int | None = None

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._leading: dict[str, KV] = {}

    @torch.inference_mode()
    def register(self, name: str, template: Template, filler: TokenIds) -> None:
        """Prefill the leading text once."""
        token_ids = template.texts[0]
        buffer = KVBuffer(self._model.layout, rows=1, capacity=len(token_ids))
        if token_ids:
            advance(self._model, [token_ids], buffer)
        self._leading[name] = buffer.view(0, len(token_ids))

    def open(self) -> "Prefix":
        return self

    def prepare(self, sessions: Sequence[Session], turns: Sequence[AgentTurn]) -> None:
        """Do nothing: the turns share no work."""

    def plan(self, turn: AgentTurn) -> Plan:
        """Supply the leading text, or all of it but one token if it is the whole prompt."""
        supplied = min(len(self._leading[turn.name]), len(turn.prompt) - 1)
        return Plan("partial", supplied, reused_text_tokens=supplied) if supplied else Plan("dense")

    @torch.inference_mode()
    def fill(self, turn: AgentTurn, plan: Plan, row: KVBuffer) -> Plan:
        """Copy the leading text's KV."""
        copy_kv(self._leading[turn.name].slice(0, plan.supplied), row.view(0, plan.supplied))
        return plan

    def learn(self, turn: AgentTurn, decoded: Decoded) -> None:
        """Do nothing: there is nothing to keep."""

    def next_round(self) -> None:
        """Do nothing: the method keeps no placeholders."""

    def close(self) -> None:
        """Do nothing: there is nothing to publish."""
