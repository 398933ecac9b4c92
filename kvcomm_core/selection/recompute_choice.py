"""The choice of tokens that are recomputed although their KV was reused, common to all methods that correct reuse so.

none      nothing
tail      the last text, which is never supplied; the engine runs it
last:k    the last k tokens of the last text
first:k   the tail, and the first k tokens of every other segment but the leading text (EPIC, arXiv 2410.15332)
share:r   the tail, and the share r of the tokens before it whose KV deviates most at layer 1 (CacheBlend, arXiv
          2405.16444); the share counts the leading text in, whose KV is exact and does not deviate
query:r   the tail, and as many tokens before it to which the tail attends most (InfoFlow, arXiv 2603.05353); the tail
          runs twice, first to ask and then over the recomputed tokens

``last:32+first:1`` is both: the last 32 tokens, and the first of every segment.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kvcomm_core.config import DeviatingPart, parse_recompute
from kvcomm_core.kv import KVBuffer
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.recompute import NOTHING, Pending, Recomputed, Selection, recompute
from kvcomm_core.selection.query_attention import attention_norms
from kvcomm_core.template import Prompt, Span

SELECTION_LAYER = 1
"""The second layer, as in the public codes of CacheBlend and LMCache. The KV of the first depends on no other token."""


@dataclass(frozen=True, slots=True)
class RecomputeChoice:
    """Which tokens of an assembled prompt are recomputed."""

    tail: bool = False
    """Whether the last text is run by the engine instead of being supplied."""
    last: int | None = None
    """Number of tokens at the end of the last text that this is limited to; None for all of it."""
    first: int = 0
    """Number of tokens at the beginning of each segment that are recomputed."""
    share: float = 0.0
    """Share of the supplied tokens that are recomputed, those that deviate most."""
    asked: float = 0.0
    """Share of the supplied tokens that are recomputed, those to which the tail attends most."""
    select: DeviatingPart = "values"
    """The part of the KV whose deviation counts."""
    depth: float = 1.0
    """Share of the layers through which the tokens that deviate most are recomputed."""

    @classmethod
    def parse(cls, text: str) -> "RecomputeChoice":
        """Return the choice that ``text`` names. Raise ``ValueError`` if it names none."""
        chosen = parse_recompute(text)
        return cls(
            tail="none" not in chosen,
            last=int(chosen["last"]) if "last" in chosen else None,
            first=int(chosen.get("first", 0)),
            share=chosen.get("share", 0.0),
            asked=chosen.get("query", 0.0),
        )

    def supplied(self, prompt: Prompt) -> int:
        """Return how many of the prompt's first tokens are filled; the engine runs the others, at least one."""
        # A template without holes is one leading text, all of which is exact.
        if not self.tail or not prompt.holes:
            return len(prompt) - 1
        return max(prompt.texts[-1].start, 0 if self.last is None else len(prompt) - self.last)

    def choose(
        self, model: LoadedModel, prompt: Prompt, supplied: int, row: KVBuffer, lost: Sequence[Span] = ()
    ) -> Pending | None:
        """Return which of the first ``supplied`` tokens, whose KV fills ``row``, are recomputed: the chosen ones, and
        those of ``lost``. None if there are none. Only ``query`` runs the model for it."""
        leading = min(len(prompt.texts[0]), supplied)
        wanted = _positions(lost, supplied)
        if self.first:
            segments = (*prompt.holes, *prompt.texts[1:])
            wanted |= _positions([Span(s.start, min(s.start + self.first, s.stop)) for s in segments], supplied)
        if self.asked and supplied > leading:
            return self._ask(model, prompt, supplied, row, wanted)
        count = min(len(wanted) + int(self.share * supplied), supplied - leading)
        if count == len(wanted):
            return Pending(_sorted(wanted)) if wanted else None
        layers = model.network.config.get_text_config().num_hidden_layers
        until = max(SELECTION_LAYER + 1, round(self.depth * layers)) if self.depth < 1.0 else None
        selection = Selection(SELECTION_LAYER, self.select, count, always_T=_sorted(wanted), until=until)
        return Pending(torch.arange(leading, supplied), selection)

    def _ask(self, model: LoadedModel, prompt: Prompt, supplied: int, row: KVBuffer, lost: set[int]) -> Pending | None:
        """Choose the tokens to which the tail attends most. The lost ones run before, as the tail would attend to KV
        that they do not have yet."""
        leading = len(prompt.texts[0])
        before = recompute(model, prompt.token_ids[:supplied], row, _sorted(lost)) if lost else NOTHING
        norms_T = attention_norms(model, prompt.token_ids, row, supplied)
        before = Recomputed(before.positions_T, before.computed_tokens + len(prompt) - supplied)
        count = min(int(self.asked * supplied), supplied - leading)
        return Pending((leading + norms_T[leading:].topk(count).indices).sort().values, before=before)


def _positions(spans: Sequence[Span], supplied: int) -> set[int]:
    return {position for span in spans for position in range(span.start, min(span.stop, supplied))}


def _sorted(positions: Collection[int]) -> Tensor:
    return torch.tensor(sorted(positions), dtype=torch.long)
