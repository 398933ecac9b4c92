"""``cacheblend``: reuse base KV as ``naive`` does, then recompute the tokens whose KV deviates most (Yao et al.,
EuroSys 2025, arXiv 2405.16444). This is the baseline of the paper's table 1.

The deviation shows early. All tokens run through layers 0 and 1, so the KV of these layers is exact. The ``ratio`` of
tokens whose keys and values at layer 1 differ most from the reused ones continue through the remaining layers and
attend to the reused KV of the others. The method knows nothing of the dense cache beyond those two layers.

It costs two full layers plus ``ratio`` of the others, from the first request on. It fails where the tokens that matter
in deeper layers do not stand out at layer 1, and for short prompts, where few tokens are recomputed.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from kvcomm_core.config import CacheBlendConfig
from kvcomm_core.kv import KVBuffer
from kvcomm_core.method import AgentTurn, Decoded, Method, Plan, Session
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.recompute import recompute
from kvcomm_core.segments import Segments, SegmentSession, prepare_bases
from kvcomm_core.template import Template, TokenIds

SELECTION_LAYER = 1


class CacheBlend(Method):
    """Base KV of the templates' texts; the only state across requests."""

    needs_answer_kv = True

    def __init__(self, model: LoadedModel, header_ids: TokenIds, config: CacheBlendConfig) -> None:
        self.segments = Segments(model, header_ids)
        self.config = config

    def register(self, name: str, template: Template, filler: TokenIds) -> None:
        """Compute the base KV of the template's texts."""
        self.segments.register(name, template, filler)

    def open(self) -> "CacheBlendSession":
        """Open a session, which has no base KV yet."""
        return CacheBlendSession(self.segments, self.config)

    def prepare(self, sessions: Sequence[Session], turns: Sequence[AgentTurn]) -> list[int]:
        """Prefill new samples alone, in one batch."""
        return prepare_bases(self.segments, cast("Sequence[CacheBlendSession]", sessions), turns)


class CacheBlendSession(SegmentSession):
    """Reuses everything but the tokens that deviate most."""

    def __init__(self, segments: Segments, config: CacheBlendConfig) -> None:
        super().__init__(segments)
        self._config = config

    def plan(self, turn: AgentTurn) -> Plan:
        """Supply all but the last token and recompute ``ratio`` of them. Which kinds of tokens these are is known
        only afterwards."""
        texts, holes = (sum(map(len, spans)) for spans in (turn.prompt.texts, turn.prompt.holes))
        if texts + holes == 1:
            return Plan("dense")
        return Plan("partial", texts + holes - 1)

    @torch.inference_mode()
    def fill(self, turn: AgentTurn, plan: Plan, row: KVBuffer) -> Plan:
        """Write every segment's base KV, then recompute."""
        with turn.stopwatch.phase("blend"):
            self.place_unchanged(turn, plan.supplied, row)
        with turn.stopwatch.phase("recompute"):
            recomputed_T = recompute(
                self.segments.model,
                turn.prompt.token_ids[: plan.supplied],
                row,
                torch.arange(plan.supplied),
                select_at=SELECTION_LAYER,
                select=self._most_deviating,
            )
        in_text = sum(int(((recomputed_T >= s.start) & (recomputed_T < s.stop)).sum()) for s in turn.prompt.texts)
        return replace(
            plan,
            reused_text_tokens=sum(map(len, turn.prompt.texts)) - 1 - in_text,
            reused_placeholder_tokens=sum(map(len, turn.prompt.holes)) - (len(recomputed_T) - in_text),
        )

    @torch.inference_mode()
    def learn(self, turn: AgentTurn, decoded: Decoded) -> None:
        """Keep the answer's base KV."""
        self.keep_answer(turn, decoded)

    def _most_deviating(self, deviation_T: Tensor, positions_T: Tensor) -> Tensor:
        count = math.ceil(self._config.ratio * len(positions_T))
        return positions_T[deviation_T.topk(count).indices.sort().values]
