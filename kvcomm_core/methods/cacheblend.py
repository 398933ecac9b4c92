"""``cacheblend``: reuse base KV as ``naive`` does, but recompute the last text and the tokens whose KV deviates most
(Yao et al., EuroSys 2025, arXiv 2405.16444). This is the baseline of the paper's table 1.

The *suffix*, which is the text after the last hole, is never reused; the engine runs it. Which other tokens deviate
shows early. They run through layers 0 and 1, so the KV of these layers is that of dense prefill. The ``ratio`` of
tokens whose values (``select: keys``: keys) at layer 1 differ most from the reused ones continue through the remaining
layers and attend to the reused KV of the others. The method knows nothing of the dense cache beyond those two layers.

It costs the suffix, two layers of what lies between the leading text and the suffix, and ``ratio`` of the other layers,
from the first request on. It fails where the tokens that matter in deeper layers do not stand out at layer 1.

The authors' code (YaoJiayi/CacheBlend, ``vllm_blend``) selects by values; LMCache, their later project, by keys. Both
count ``ratio`` as we do: of the tokens without the suffix, the leading text included, rounded down. Differences:

- *Mask.* Theirs treats the chosen tokens as the last of the prompt, so that most see some tokens that come after them.
  Ours shows each token what stands before it.
- *Leading text.* Its KV is exact and does not deviate. They run it through both layers all the same; we do not.
- *Layer 1.* Of the tokens that are not chosen, they compute only the projections there; we run them through the whole
  layer. The results are equal, ours cost a few percent more. Their new KV at layer 1 is kept, as in the authors' code;
  LMCache keeps the old.
- *Nothing to choose*, as with ``ratio`` 0. We run the suffix alone; they still run two layers of everything.
- *Suffix.* Three of the authors' four example scripts pass 1 as its length (they take the length of a list around it),
  the fourth its true length. We recompute all of it, as the fourth script and LMCache do.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from kvcomm_core.config import CacheBlendConfig
from kvcomm_core.kv import KVBuffer
from kvcomm_core.method import AgentTurn, Decoded, Method, Plan, Session
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.recompute import Recomputed, Selection, recompute
from kvcomm_core.segments import Segments, SegmentSession, prepare_bases
from kvcomm_core.template import Span, Template, TokenIds

SELECTION_LAYER = 1
"""The second layer, as in both public codes. The KV of the first depends on no other token."""


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
    """Reuses what lies before the last text, but for the tokens that deviate most."""

    def __init__(self, segments: Segments, config: CacheBlendConfig) -> None:
        super().__init__(segments)
        self._config = config

    def plan(self, turn: AgentTurn) -> Plan:
        """Supply everything before the last text. Which tokens of it are recomputed is known only afterwards."""
        # A template without holes is one leading text, all of which is exact.
        supplied = turn.prompt.texts[-1].start if turn.prompt.holes else len(turn.prompt) - 1
        return Plan("partial", supplied) if supplied else Plan("dense")

    @torch.inference_mode()
    def fill(self, turn: AgentTurn, plan: Plan, row: KVBuffer) -> Plan:
        """Write every segment's base KV, then recompute."""
        with turn.stopwatch.phase("blend"):
            self.place_unchanged(turn, plan.supplied, row)
        leading = min(len(turn.prompt.texts[0]), plan.supplied)
        done = self._recompute(turn, plan.supplied, leading, row)
        taken_over = plan.supplied - len(done.positions_T)
        in_holes = _left(turn.prompt.holes, done.positions_T)
        return replace(
            plan,
            reused_text_tokens=taken_over - in_holes,
            reused_placeholder_tokens=in_holes - _left(self.fresh_spans(turn), done.positions_T),
            recomputed_tokens=done.computed_tokens,
            estimated_tokens=taken_over - leading,
        )

    def _recompute(self, turn: AgentTurn, supplied: int, leading: int, row: KVBuffer) -> Recomputed:
        """Recompute ``ratio`` of the ``supplied`` tokens, none of them in the leading text."""
        count = min(int(self._config.ratio * supplied), supplied - leading)
        if not count:
            return Recomputed(torch.empty(0, dtype=torch.long), 0.0)
        with turn.stopwatch.phase("recompute"):
            return recompute(
                self.segments.model,
                turn.prompt.token_ids[:supplied],
                row,
                torch.arange(leading, supplied),
                Selection(SELECTION_LAYER, self._config.select, count),
            )

    @torch.inference_mode()
    def learn(self, turn: AgentTurn, decoded: Decoded) -> None:
        """Keep the answer's base KV."""
        self.keep_answer(turn, decoded)


def _left(spans: Sequence[Span], recomputed_T: Tensor) -> int:
    """Return how many tokens of the spans were not recomputed."""
    return sum(len(s) - int(((recomputed_T >= s.start) & (recomputed_T < s.stop)).sum()) for s in spans)
