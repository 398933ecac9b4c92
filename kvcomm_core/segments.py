"""Base KV: each segment's KV in its reference context, for every method that reuses segments.

The base KV of a text segment comes from one prefill of its template with filler in the holes. For a question or tool
result it comes from a prefill alone under the chat header, and for an answer from the cache its agent decoded with.
Keys are stored at local positions 0..T-1 and moved to a segment's position when it is placed in a prompt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from kvcomm_core.blending import lift, place
from kvcomm_core.decode import advance
from kvcomm_core.kv import KV, KVBuffer
from kvcomm_core.method import AgentTurn, Decoded, Plan, Session, distinct, in_next_round
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.recompute import Recomputed, tokens_left
from kvcomm_core.template import Span, Template, TokenIds

_HEADER_AGAIN_FROM = 512
"""Number of tokens from which the header is run again together with a sample. Attention that starts at an empty
cache is causal without a mask and takes half the work of masked attention, which outweighs the header's few tokens."""


@dataclass(frozen=True, slots=True)
class BaseKV:
    """A segment's KV in its reference context."""

    token_ids: TokenIds
    kv: KV
    """Keys at local positions 0..T-1."""
    origin: int
    """Position of its first token in the reference context; its keys stay there when rotation is switched off."""


class Segments:
    """Base KV of all templates' texts, and the functions that make base KV for the content of their holes."""

    def __init__(self, model: LoadedModel, header_ids: TokenIds) -> None:
        """``header_ids`` is the chat markup before the content of a plain user message."""
        self.model = model
        self.texts: dict[str, tuple[BaseKV, ...]] = {}
        """Base KV of p0 .. pn, by the template's name."""
        self._header_ids = header_ids
        self._header = KVBuffer(model.layout, rows=1, capacity=len(header_ids))
        if header_ids:
            advance(model, [header_ids], self._header)

    @torch.inference_mode()
    def register(self, name: str, template: Template, filler: TokenIds) -> None:
        """Compute the base KV of the template's texts from one prefill with ``filler`` in every hole."""
        prompt = template.fill(dict.fromkeys(template.holes, filler))
        buffer = KVBuffer(self.model.layout, rows=1, capacity=len(prompt))
        advance(self.model, [prompt.token_ids], buffer)
        self.texts[name] = tuple(
            self.to_base(ids, buffer.view(span.start, span.stop), span.start)
            for ids, span in zip(template.texts, prompt.texts, strict=True)
        )

    @torch.inference_mode()
    def prefill_alone(self, samples: Sequence[TokenIds]) -> tuple[list[BaseKV], list[int]]:
        """Return the base KV of questions and tool results, prefilled in one padded batch, each under the header
        alone; and for each the tokens that ran through the model, the header's included where it runs again."""
        start = self._header.length
        buffer = KVBuffer(self.model.layout, len(samples), start + max(map(len, samples)))
        # An empty sample still needs a token to stand for it in the batch; its KV is never read.
        rows = [ids or (0,) for ids in samples]
        again = buffer.capacity - start >= _HEADER_AGAIN_FROM
        if again:
            advance(self.model, [(*self._header_ids, *ids) for ids in rows], buffer)
        elif buffer.capacity > start:
            for row in range(len(samples)):
                self._header.view(0, start).copy_to(buffer.view(0, start, row))
            buffer.length = start
            advance(self.model, rows, buffer)
        bases = [self.to_base(ids, buffer.view(start, start + len(ids), row), start) for row, ids in enumerate(samples)]
        return bases, [len(ids) + (start if again else 0) for ids in samples]

    def to_base(self, token_ids: TokenIds, kv: KV, position: int) -> BaseKV:
        """Return the base KV of ``token_ids``, whose KV ``kv`` was computed at ``position``."""
        return BaseKV(token_ids, self.to_local(kv, position), origin=position)

    def to_local(self, kv: KV, position: int) -> KV:
        """Return a copy of KV whose first token is at ``position``, its keys moved to local positions."""
        return lift(kv, self.model.rope, position)


class SegmentSession(Session):
    """The base KV of each placeholder that one request knows."""

    def __init__(self, segments: Segments) -> None:
        self.segments = segments
        self.bases: dict[str, BaseKV] = {}
        self._fresh: frozenset[str] = frozenset()
        """The placeholders whose base KV was made for the current turn."""

    def missing(self, turn: AgentTurn) -> dict[str, TokenIds]:
        """Return the samples of this turn that have no base KV yet, by placeholder."""
        spans = dict(zip(turn.template.holes, turn.prompt.holes, strict=True))
        return {
            placeholder: turn.prompt.token_ids[spans[placeholder].start : spans[placeholder].stop]
            for placeholder in distinct(turn.template.holes)
            if placeholder not in self.bases
        }

    def fresh_spans(self, turn: AgentTurn) -> list[Span]:
        """Return the spans of the prompt whose base KV this turn prefilled alone: each new sample once, however many
        holes it fills."""
        first = {hole: span for hole, span in reversed(list(zip(turn.template.holes, turn.prompt.holes, strict=True)))}
        return [first[placeholder] for placeholder in self._fresh]

    def account(self, turn: AgentTurn, plan: Plan, done: Recomputed) -> Plan:
        """Return the plan with the counts of the tokens it supplies, some of which were recomputed. Base KV that this
        turn made is computed, and the leading text is exact."""
        prompt = turn.prompt
        leading = len(prompt.texts[0].before(plan.supplied))
        taken_over = plan.supplied - len(done.positions_T)
        in_holes = tokens_left([hole.before(plan.supplied) for hole in prompt.holes], done.positions_T)
        fresh = [span.before(plan.supplied) for span in self.fresh_spans(turn)]
        return replace(
            super().account(turn, plan, done),
            reused_text_tokens=taken_over - in_holes,
            reused_placeholder_tokens=in_holes - tokens_left(fresh, done.positions_T),
            estimated_tokens=taken_over - leading,
        )

    def keep_answer(self, turn: AgentTurn, decoded: Decoded) -> None:
        """Make the answer's KV the base KV of the placeholder it fills."""
        base = self.segments.to_base(decoded.answer_ids, decoded.answer_kv, len(turn.prompt))
        self.bases[turn.answers] = base

    def next_round(self) -> None:
        """Rename current placeholders to history, with the base KV they have; nothing is computed."""
        self.bases = {in_next_round(placeholder): base for placeholder, base in self.bases.items()}

    def place_unchanged(self, turn: AgentTurn, supplied: int, row: KVBuffer) -> None:
        """Write every segment's base KV for the first ``supplied`` tokens, keys moved to their positions."""
        texts = zip(self.segments.texts[turn.name], turn.prompt.texts, strict=True)
        holes = zip((self.bases[hole] for hole in turn.template.holes), turn.prompt.holes, strict=True)
        for base, span in (*texts, *holes):
            within = span.before(supplied)
            place(base.kv, [], row.view(within.start, within.stop), self.segments.model.rope, span.start)


def make_bases(
    segments: Segments, sessions: Sequence[SegmentSession], missing: Sequence[Mapping[str, TokenIds]]
) -> list[int]:
    """Make the base KV that each session is ``missing``, in one batch. Return the tokens run for each session."""
    wanted = [
        (index, placeholder, ids) for index, samples in enumerate(missing) for placeholder, ids in samples.items()
    ]
    computed = [0] * len(sessions)
    if wanted:
        bases, tokens = segments.prefill_alone([ids for _, _, ids in wanted])
        for (index, placeholder, _), base, count in zip(wanted, bases, tokens, strict=True):
            sessions[index].bases[placeholder] = base
            computed[index] += count
    for session, samples in zip(sessions, missing, strict=True):
        session._fresh = frozenset(samples)
    return computed


def prepare_bases(segments: Segments, sessions: Sequence[SegmentSession], turns: Sequence[AgentTurn]) -> list[int]:
    """Make all base KV that the turns of a batch, one per session, still lack. Return the tokens run for each."""
    return make_bases(
        segments, sessions, [session.missing(turn) for session, turn in zip(sessions, turns, strict=True)]
    )
