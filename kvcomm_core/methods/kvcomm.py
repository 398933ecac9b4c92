"""``kvcomm``: reuse every segment's KV at its new position, corrected by offsets learnt from anchors.

For each placeholder and the text after it (paper, Eq. 6 and 7),

    KV(prompt) = rotate(base KV + sum_psi w_psi * offset_psi, to where the segment stands)

with base KV from a reference context: a text segment's from a prefill of its template with filler in the holes, a
question's or tool result's prefilled alone under the chat header, an answer's from the cache its agent decoded with.
A sample that is unlike every anchor (Eq. 5) becomes an anchor: the turns that read it are prefilled densely, and
true minus base KV is kept as their offsets.

One frame: keys of base KV and offsets are at local positions 0..T-1, and rotated once, after blending.

Costs per reuse turn: reading the offsets of all matched anchors, writing one prompt's KV, one token's forward pass.
Fails when offsets depend on more than the anchors show: few anchors, or answers whose context differs much.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from kvcomm_core.anchors import Anchor, AnchorPools, Offset, Slot, find_repeat
from kvcomm_core.config import KVCommConfig
from kvcomm_core.criteria import entropy_paper, relative_distances, weights_from_distances
from kvcomm_core.decode import advance
from kvcomm_core.estimators import add_blend
from kvcomm_core.kv import KV, KVBuffer
from kvcomm_core.methods import AgentTurn, Decoded, Plan, Session, answer_placeholder, distinct
from kvcomm_core.model import LoadedModel
from kvcomm_core.template import Template, TokenIds


@dataclass(frozen=True, slots=True)
class BaseKV:
    """A segment's KV in its reference context."""

    token_ids: TokenIds
    kv: KV
    """Keys at local positions 0..T-1."""
    origin: int
    """Position of its first token in the reference context; where its keys stay when rotation is switched off."""


@dataclass(frozen=True, slots=True)
class Match:
    """The anchors a shareable sample is estimated from, and its distances to them ``[A]``."""

    anchors: tuple[Anchor, ...]
    distances_A: Tensor

    def at(self, slot: Slot, temperature: float) -> tuple[list[Anchor], list[float]]:
        """The anchors that have this slot's offset, and their blending weights; both empty if none has."""
        having = [index for index, anchor in enumerate(self.anchors) if slot in anchor.offsets]
        weights: list[float] = weights_from_distances(self.distances_A[having], temperature).tolist()
        return [self.anchors[index] for index in having], weights


class KVComm:
    """The method's state across requests: base KV of every agent's text segments, and the anchor pools."""

    needs_answer_kv = True

    def __init__(self, model: LoadedModel, header_ids: TokenIds, config: KVCommConfig) -> None:
        self.model = model
        self.config = config
        self.pools = AnchorPools(config.max_anchors, config.window)
        self.texts: dict[str, tuple[BaseKV, ...]] = {}
        self.header = KVBuffer(model.layout, rows=1, capacity=len(header_ids))
        if header_ids:
            advance(model, [header_ids], self.header)

    @property
    def pool_bytes(self) -> int:
        return self.pools.nbytes

    def register(self, agent_id: str, template: Template, filler: TokenIds) -> None:
        """Take the base KV of the template's texts from one prefill with ``filler`` in every hole."""
        prompt = template.fill(dict.fromkeys(template.holes, filler))
        buffer = KVBuffer(self.model.layout, rows=1, capacity=len(prompt))
        advance(self.model, [prompt.token_ids], buffer)
        self.texts[agent_id] = tuple(
            self.to_base(ids, buffer.view(span.start, span.stop), span.start)
            for ids, span in zip(template.texts, prompt.texts, strict=True)
        )

    def open(self) -> "KVCommSession":
        """A session that sees the pools as they are now."""
        return KVCommSession(self)

    @torch.inference_mode()
    def prepare(self, sessions: Sequence[Session], turns: Sequence[AgentTurn]) -> None:
        """Take the base KV of questions and tool results that are new, in one padded batch under the chat header."""
        wanted: list[tuple[KVCommSession, str, TokenIds]] = []
        for session, turn in zip(cast("Sequence[KVCommSession]", sessions), turns, strict=True):
            for placeholder, span in dict(zip(turn.template.holes, turn.prompt.holes, strict=True)).items():
                if placeholder not in session.bases:
                    wanted.append((session, placeholder, turn.prompt.token_ids[span.start : span.stop]))
        if not wanted:
            return
        start = self.header.length
        buffer = KVBuffer(self.model.layout, len(wanted), start + max(len(ids) for _, _, ids in wanted))
        for row in range(len(wanted)):
            _copy(self.header.view(0, start), buffer.view(0, start, row))
        buffer.length = start
        if buffer.capacity > start:
            # An empty sample still needs a token to stand for it in the batch; its KV is never read.
            advance(self.model, [ids or (0,) for _, _, ids in wanted], buffer)
        for row, (session, placeholder, ids) in enumerate(wanted):
            session.bases[placeholder] = self.to_base(ids, buffer.view(start, start + len(ids), row), start)

    def to_base(self, token_ids: TokenIds, kv: KV, position: int) -> BaseKV:
        """The base KV of ``token_ids``, whose KV ``kv`` was made at ``position``."""
        return BaseKV(token_ids, self.to_local(kv, position), origin=position)

    def to_local(self, kv: KV, position: int) -> KV:
        """A copy of KV whose first token is at ``position``, its keys moved to local positions."""
        keys = tuple(self.model.rope.move(k_LHTD, -position) for k_LHTD in kv.keys)
        return KV(keys, tuple(v_LHTD.clone() for v_LHTD in kv.values))


class KVCommSession:
    """One request: base KV of its placeholders, what they matched, and the anchors it drafts."""

    def __init__(self, method: KVComm) -> None:
        self._method = method
        self._model = method.model
        self._config = method.config
        self._anchors = method.pools.snapshot()
        self._pool_bytes = method.pool_bytes
        self.bases: dict[str, BaseKV] = {}
        """Of the placeholders seen so far."""
        self._matches: dict[str, Match] = {}
        self._drafts: dict[str, dict[Slot, Offset]] = {}
        """Placeholders declared new anchors, with the offsets measured so far."""
        self._estimates: list[tuple[list[Anchor], list[float]]] | None = None
        """Of the turn under way: anchors and weights of each hole."""
        self._uses: list[tuple[str, Anchor, float]] = []

    @torch.inference_mode()
    def plan(self, turn: AgentTurn) -> Plan:
        """Reuse all but the last token of the prompt, or nothing if one of its samples is a new anchor."""
        placeholders = distinct(turn.template.holes)
        with turn.stopwatch.phase("match"):
            for placeholder in placeholders:
                self._judge(placeholder)
            self._estimates = self._estimate(turn)
        anchors = sum(len(self._anchors.get(placeholder, ())) for placeholder in placeholders)
        if self._estimates is None:
            return Plan("dense", anchors=anchors, pool_bytes=self._pool_bytes)
        return Plan(
            "reuse",
            supplied=len(turn.prompt) - 1,  # the last token is run for its logits
            reused_text_tokens=sum(map(len, turn.prompt.texts)) - 1,
            reused_placeholder_tokens=sum(map(len, turn.prompt.holes)),
            anchors=anchors,
            pool_bytes=self._pool_bytes,
        )

    @torch.inference_mode()
    def fill(self, turn: AgentTurn, plan: Plan, row: KVBuffer) -> None:
        """Assemble the planned tokens: blend each segment, then rotate its keys to where it stands."""
        with turn.stopwatch.phase("blend"):
            self._assemble(turn, plan.supplied, row)

    @torch.inference_mode()
    def learn(self, turn: AgentTurn, decoded: Decoded) -> None:
        """After a dense turn, keep its offsets in the drafted anchors; always, keep the answer's base KV."""
        if decoded.prompt_kv is not None:
            for hole, placeholder in enumerate(turn.template.holes):
                if placeholder in self._drafts:
                    slot = Slot(turn.agent_id, hole)
                    self._drafts[placeholder][slot] = self._measure(turn, decoded.prompt_kv, hole, placeholder)
        base = self._method.to_base(decoded.answer_ids, decoded.answer_kv, len(turn.prompt))
        self.bases[answer_placeholder(turn.agent_id)] = base

    def close(self) -> None:
        """Publish the drafted anchors and count the uses of the matched ones."""
        for placeholder, anchor, weight in self._uses:
            self._method.pools[placeholder].count_use(anchor, weight)
        for placeholder, offsets in self._drafts.items():
            if offsets:
                base = self.bases[placeholder]
                self._method.pools[placeholder].add(Anchor(base.token_ids, base.kv.values, offsets))

    def _judge(self, placeholder: str) -> None:
        """Decide once per request whether a placeholder's sample is shareable or a new anchor (Eq. 5)."""
        if placeholder in self._matches or placeholder in self._drafts:
            return
        base, pool = self.bases[placeholder], self._anchors.get(placeholder, ())
        if (repeat := find_repeat(pool, base.token_ids)) is not None:
            self._matches[placeholder] = Match((repeat,), torch.zeros(1, dtype=torch.float64))
            return
        candidates = tuple(anchor for anchor in pool if len(anchor) >= len(base.token_ids))
        if len(candidates) >= self._config.min_anchors:
            distances_A = relative_distances(base.kv.values, [anchor.base_values for anchor in candidates])
            if entropy_paper(distances_A, gamma=self._config.gamma, temperature=self._config.match_temperature):
                self._matches[placeholder] = Match(candidates, distances_A)
                return
        self._drafts[placeholder] = {}

    def _estimate(self, turn: AgentTurn) -> list[tuple[list[Anchor], list[float]]] | None:
        """Anchors and weights for each hole, or None if any hole has no usable offset and the turn goes dense."""
        estimates = []
        for hole, placeholder in enumerate(turn.template.holes):
            if placeholder in self._drafts:
                return None
            slot = Slot(turn.agent_id, hole)
            anchors, weights = self._matches[placeholder].at(slot, self._config.blend_temperature)
            if not anchors:
                # Shareable, but no anchor has met this agent: learn from this sample instead.
                del self._matches[placeholder]
                self._drafts[placeholder] = {}
                return None
            estimates.append((anchors, weights))
        return estimates

    def _assemble(self, turn: AgentTurn, supplied: int, row: KVBuffer) -> None:
        assert self._estimates is not None  # noqa: S101 - planned as reuse
        texts, prompt = self._method.texts[turn.agent_id], turn.prompt
        first = prompt.texts[0]
        self._place(texts[0], row.view(first.start, min(first.stop, supplied)), first.start, [], [])
        for hole, (placeholder, (anchors, weights)) in enumerate(
            zip(turn.template.holes, self._estimates, strict=True)
        ):
            offsets = [anchor.offsets[Slot(turn.agent_id, hole)] for anchor in anchors]
            span, after = prompt.holes[hole], prompt.texts[hole + 1]
            blended = [o.placeholder for o in offsets] if self._config.placeholder_offset else []
            self._place(self.bases[placeholder], row.view(span.start, span.stop), span.start, blended, weights)
            blended = [o.text for o in offsets] if self._config.text_offset else []
            region = row.view(after.start, min(after.stop, supplied))
            self._place(texts[hole + 1], region, after.start, blended, weights)
            self._uses += [(placeholder, a, w) for a, w in zip(anchors, weights, strict=True)]

    def _place(self, base: BaseKV, region: KV, start: int, offsets: list[KV], weights: list[float]) -> None:
        """Write a segment's corrected KV to ``region``, which begins at position ``start``: blend, then rotate."""
        kv = base.kv.slice(0, len(region))
        by = start if self._config.rotate_keys else base.origin
        weights = weights[: len(offsets)]
        for group in range(len(kv.keys)):
            add_blend(kv.values[group], [o.values[group] for o in offsets], weights, out=region.values[group])
            keys_LHTD = add_blend(kv.keys[group], [o.keys[group] for o in offsets], weights)
            self._model.rope.move(keys_LHTD, by, out=region.keys[group])

    def _measure(self, turn: AgentTurn, prompt_kv: KV, hole: int, placeholder: str) -> Offset:
        """True minus base KV of a hole and of the text after it, from a densely prefilled prompt."""
        span, after = turn.prompt.holes[hole], turn.prompt.texts[hole + 1]
        text_base = self._method.texts[turn.agent_id][hole + 1].kv
        true = self._method.to_local(prompt_kv.slice(span.start, span.stop), span.start)
        true_text = self._method.to_local(prompt_kv.slice(after.start, after.stop), after.start)
        return Offset(true.minus(self.bases[placeholder].kv), true_text.minus(text_base))


def _copy(source: KV, target: KV) -> None:
    for from_, to in zip((*source.keys, *source.values), (*target.keys, *target.values), strict=True):
        to.copy_(from_)
