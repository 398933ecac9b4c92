"""Selective recomputation: reuse base KV as ``naive`` does, then recompute the tokens of a ``RecomputeChoice``.

``cacheblend`` and ``epic`` are this with their own choices. The last text is never reused; the engine runs it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch

from kvcomm_core.kv import KVBuffer
from kvcomm_core.method import AgentTurn, Decoded, Method, Plan, Session
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.segments import Segments, SegmentSession, prepare_bases
from kvcomm_core.selection.recompute_choice import RecomputeChoice
from kvcomm_core.template import Template, TokenIds


class SelectiveRecompute(Method):
    """Base KV of the templates' texts; the only state across requests."""

    needs_answer_kv = True

    def __init__(self, model: LoadedModel, header_ids: TokenIds, choice: RecomputeChoice) -> None:
        self.segments = Segments(model, header_ids)
        self.choice = choice

    def register(self, name: str, template: Template, filler: TokenIds) -> None:
        """Compute the base KV of the template's texts."""
        self.segments.register(name, template, filler)

    def open(self) -> "SelectiveSession":
        """Open a session, which has no base KV yet."""
        return SelectiveSession(self.segments, self.choice)

    def prepare(self, sessions: Sequence[Session], turns: Sequence[AgentTurn]) -> list[int]:
        """Prefill new samples alone, in one batch."""
        return prepare_bases(self.segments, cast("Sequence[SelectiveSession]", sessions), turns)


class SelectiveSession(SegmentSession):
    """Reuses the tokens before the last text that the choice leaves."""

    def __init__(self, segments: Segments, choice: RecomputeChoice) -> None:
        super().__init__(segments)
        self._choice = choice

    def plan(self, turn: AgentTurn) -> Plan:
        """Supply everything before the last text. Which tokens of it are recomputed is known only afterwards."""
        supplied = self._choice.supplied(turn.prompt)
        return Plan("partial", supplied) if supplied else Plan("dense")

    @torch.inference_mode()
    def fill(self, turn: AgentTurn, plan: Plan, row: KVBuffer) -> Plan:
        """Write every segment's base KV, and choose what is recomputed."""
        with turn.stopwatch.phase("blend"):
            self.place_unchanged(turn, plan.supplied, row)
        with turn.stopwatch.phase("recompute"):
            return replace(plan, pending=self._choice.choose(self.segments.model, turn.prompt, plan.supplied, row))

    @torch.inference_mode()
    def learn(self, turn: AgentTurn, decoded: Decoded) -> None:
        """Keep the answer's base KV."""
        self.keep_answer(turn, decoded)
