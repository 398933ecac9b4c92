"""``naive``: reuse every segment's base KV, with keys rotated to the segment's position; nothing is corrected.

    KV(prompt) = rotate(base KV, to the segment's position)

It costs one copy of the prompt's KV and one token's forward pass, from the first request on. It fails because a
segment's values, and its keys beyond their position, depend on the tokens before it: no token of one segment has seen
another segment.
"""

from collections.abc import Sequence
from typing import cast

import torch

from kvcomm_core.kv import KVBuffer
from kvcomm_core.method import AgentTurn, Decoded, Method, Plan, Session
from kvcomm_core.methods.baseline_config import NaiveConfig
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.segments import Segments, SegmentSession, prepare_bases
from kvcomm_core.template import Template, TokenIds


class Naive(Method):
    """Base KV of the templates' texts; the only state across requests."""

    needs_answer_kv = True

    def __init__(self, model: LoadedModel, header_ids: TokenIds) -> None:
        self.segments = Segments(model, header_ids)

    def register(self, name: str, template: Template, filler: TokenIds) -> None:
        """Compute the base KV of the template's texts."""
        self.segments.register(name, template, filler)

    def open(self) -> "NaiveSession":
        """Open a session, which has no base KV yet."""
        return NaiveSession(self.segments)

    def prepare(self, sessions: Sequence[Session], turns: Sequence[AgentTurn]) -> list[int]:
        """Prefill new samples alone, in one batch."""
        return prepare_bases(self.segments, cast("Sequence[NaiveSession]", sessions), turns)


class NaiveSession(SegmentSession):
    """Reuses everything, always."""

    def plan(self, turn: AgentTurn) -> Plan:
        """Supply all but the last token, which the engine runs for its logits."""
        last = len(turn.prompt) - 1
        return Plan("reuse", supplied=last) if last else Plan("dense")

    @torch.inference_mode()
    def fill(self, turn: AgentTurn, plan: Plan, row: KVBuffer) -> Plan:
        """Write every segment's base KV."""
        with turn.stopwatch.phase("blend"):
            self.place_unchanged(turn, plan.supplied, row)
        return plan

    @torch.inference_mode()
    def learn(self, turn: AgentTurn, decoded: Decoded) -> None:
        """Keep the answer's base KV."""
        self.keep_answer(turn, decoded)


def build(model: LoadedModel, header_ids: TokenIds, parameters: NaiveConfig) -> Naive:  # noqa: ARG001 - it has none
    """Return the method."""
    return Naive(model, header_ids)
