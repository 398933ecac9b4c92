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

from dataclasses import dataclass

import torch
from torch import Tensor

from kvcomm_core.anchors import Anchor, AnchorPools, Offset, Slot, find_repeat
from kvcomm_core.config import KVCommConfig
from kvcomm_core.criteria import entropy_paper, relative_distances, weights_from_distances
from kvcomm_core.decode import Answer, advance
from kvcomm_core.estimators import add_blend
from kvcomm_core.kv import KV, KVBuffer
from kvcomm_core.methods import AgentTurn, Prefill, answer_placeholder, distinct
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
            advance(model, header_ids, self.header)

    @property
    def pool_bytes(self) -> int:
        return self.pools.nbytes

    def register(self, agent_id: str, template: Template, filler: TokenIds) -> None:
        """Take the base KV of the template's texts from one prefill with ``filler`` in every hole."""
        prompt = template.fill(dict.fromkeys(template.holes, filler))
        buffer = KVBuffer(self.model.layout, rows=1, capacity=len(prompt))
        advance(self.model, prompt.token_ids, buffer)
        self.texts[agent_id] = tuple(
            self.to_base(ids, buffer, span.start) for ids, span in zip(template.texts, prompt.texts, strict=True)
        )

    def open(self) -> "KVCommSession":
        """A session that sees the pools as they are now."""
        return KVCommSession(self)

    def to_base(self, token_ids: TokenIds, buffer: KVBuffer, start: int) -> BaseKV:
        """The base KV of ``token_ids``, whose KV stands in ``buffer`` from ``start`` on."""
        kv = self.to_local(buffer.view(start, start + len(token_ids)), start)
        return BaseKV(token_ids, kv, origin=start)

    def to_local(self, kv: KV, start: int) -> KV:
        """A copy of KV that stands at ``start``, its keys moved to local positions."""
        keys = tuple(self.model.rope.move(k_LHTD, -start) for k_LHTD in kv.keys)
        return KV(keys, tuple(v_LHTD.clone() for v_LHTD in kv.values))


class KVCommSession:
    """One request: base KV of its placeholders, what they matched, and the anchors it drafts."""

    def __init__(self, method: KVComm) -> None:
        self._method = method
        self._model = method.model
        self._config = method.config
        self._anchors = method.pools.snapshot()
        self._pool_bytes = method.pool_bytes
        self._bases: dict[str, BaseKV] = {}
        self._matches: dict[str, Match] = {}
        self._drafts: dict[str, dict[Slot, Offset]] = {}
        """Placeholders declared new anchors, with the offsets measured so far."""
        self._uses: list[tuple[str, Anchor, float]] = []

    @torch.inference_mode()
    def prefill(self, turn: AgentTurn) -> Prefill:
        """Assemble all but the last token of the prompt from caches, or leave it all to a dense prefill."""
        placeholders = distinct(turn.template.holes)
        values = dict(zip(turn.template.holes, turn.prompt.holes, strict=True))
        with turn.stopwatch.phase("base_kv"):
            for placeholder in placeholders:
                if placeholder not in self._bases:
                    span = values[placeholder]
                    token_ids = turn.prompt.token_ids[span.start : span.stop]
                    self._bases[placeholder] = self._prefill_alone(token_ids)
        with turn.stopwatch.phase("match"):
            for placeholder in placeholders:
                self._judge(placeholder)
            estimates = self._estimates(turn)
        anchors = sum(len(self._anchors.get(placeholder, ())) for placeholder in placeholders)
        if estimates is None:
            return Prefill("dense", anchors=anchors, pool_bytes=self._pool_bytes)
        with turn.stopwatch.phase("blend"):
            self._assemble(turn, estimates)
        return Prefill(
            "reuse",
            reused_text_tokens=sum(map(len, turn.prompt.texts)) - 1,  # the last token is run for its logits
            reused_placeholder_tokens=sum(map(len, turn.prompt.holes)),
            anchors=anchors,
            pool_bytes=self._pool_bytes,
        )

    @torch.inference_mode()
    def learn(self, turn: AgentTurn, prefill: Prefill, answer: Answer) -> None:
        """After a dense turn, keep its offsets in the drafted anchors; always, keep the answer's base KV."""
        if prefill.mode == "dense":
            for hole, placeholder in enumerate(turn.template.holes):
                if placeholder in self._drafts:
                    slot = Slot(turn.agent_id, hole)
                    self._drafts[placeholder][slot] = self._measure_offset(turn, hole, placeholder)
        base = self._method.to_base(answer.token_ids, turn.buffer, len(turn.prompt))
        self._bases[answer_placeholder(turn.agent_id)] = base

    def close(self) -> None:
        """Publish the drafted anchors and count the uses of the matched ones."""
        for placeholder, anchor, weight in self._uses:
            self._method.pools[placeholder].count_use(anchor, weight)
        for placeholder, offsets in self._drafts.items():
            if offsets:
                base = self._bases[placeholder]
                self._method.pools[placeholder].add(Anchor(base.token_ids, base.kv.values, offsets))

    def _prefill_alone(self, token_ids: TokenIds) -> BaseKV:
        """Base KV of a question or a tool result: prefilled under the chat header and nothing else."""
        start = self._method.header.length
        buffer = KVBuffer(self._model.layout, rows=1, capacity=start + len(token_ids))
        reserved, header = buffer.view(0, start), self._method.header.view(0, start)
        for into, tensor in zip(_tensors(reserved), _tensors(header), strict=True):
            into.copy_(tensor)
        buffer.length = start
        if token_ids:
            advance(self._model, token_ids, buffer)
        return self._method.to_base(token_ids, buffer, start)

    def _judge(self, placeholder: str) -> None:
        """Decide once per request whether a placeholder's sample is shareable or a new anchor (Eq. 5)."""
        if placeholder in self._matches or placeholder in self._drafts:
            return
        base, pool = self._bases[placeholder], self._anchors.get(placeholder, ())
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

    def _estimates(self, turn: AgentTurn) -> list[tuple[list[Anchor], list[float]]] | None:
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

    def _assemble(self, turn: AgentTurn, estimates: list[tuple[list[Anchor], list[float]]]) -> None:
        texts, prompt = self._method.texts[turn.agent_id], turn.prompt
        last = len(prompt) - 1
        self._place(turn, texts[0], prompt.texts[0].start, min(prompt.texts[0].stop, last), [], [])
        for hole, (placeholder, (anchors, weights)) in enumerate(zip(turn.template.holes, estimates, strict=True)):
            offsets = [anchor.offsets[Slot(turn.agent_id, hole)] for anchor in anchors]
            span, after = prompt.holes[hole], prompt.texts[hole + 1]
            placed = [o.placeholder for o in offsets] if self._config.placeholder_offset else []
            self._place(turn, self._bases[placeholder], span.start, span.stop, placed, weights[: len(placed)])
            placed = [o.text for o in offsets] if self._config.text_offset else []
            self._place(turn, texts[hole + 1], after.start, min(after.stop, last), placed, weights[: len(placed)])
            self._uses += [(placeholder, a, w) for a, w in zip(anchors, weights, strict=True)]
        turn.buffer.length = last

    def _place(
        self, turn: AgentTurn, base: BaseKV, start: int, stop: int, offsets: list[KV], weights: list[float]
    ) -> None:
        """Write a segment's corrected KV to positions ``start`` to ``stop``: blend, then rotate the keys."""
        region, kv = turn.buffer.view(start, stop), base.kv.slice(0, stop - start)
        by = start if self._config.rotate_keys else base.origin
        for group in range(len(kv.keys)):
            add_blend(kv.values[group], [o.values[group] for o in offsets], weights, out=region.values[group])
            keys_LHTD = add_blend(kv.keys[group], [o.keys[group] for o in offsets], weights)
            self._model.rope.move(keys_LHTD, by, out=region.keys[group])

    def _measure_offset(self, turn: AgentTurn, hole: int, placeholder: str) -> Offset:
        """True minus base KV of a hole and of the text after it, from a densely prefilled buffer."""
        span, after = turn.prompt.holes[hole], turn.prompt.texts[hole + 1]
        text_base = self._method.texts[turn.agent_id][hole + 1].kv
        true = self._method.to_local(turn.buffer.view(span.start, span.stop), span.start)
        true_text = self._method.to_local(turn.buffer.view(after.start, after.stop), after.start)
        return Offset(true.minus(self._bases[placeholder].kv), true_text.minus(text_base))


def _tensors(kv: KV) -> tuple[Tensor, ...]:
    return (*kv.keys, *kv.values)
