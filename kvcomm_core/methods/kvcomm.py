"""``kvcomm``: reuse every segment's KV at its new position, corrected by offsets learnt from anchors.

For each placeholder and the text after it (paper, Eq. 6 and 7),

    KV(prompt) = rotate(base KV + sum_psi w_psi * offset_psi, to the segment's position)

``segments`` makes the base KV, and ``estimators`` gives w. A sample that is unlike every anchor (``criteria``, Eq. 5)
becomes an anchor: the turns that read it are prefilled densely, and true minus base KV is kept as their offset.

Keys of base KV and offsets share one frame: local positions 0..T-1. They are rotated once, after blending.

A reuse turn reads the offsets of all matched anchors (one running mean with the ``mean`` estimator), writes one
prompt's KV and runs one token's forward pass. The method fails when offsets depend on more than the anchors show: with
few anchors, with answers whose contexts differ much, or with a text whose meaning depends on the placeholder before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor

from kvcomm_core.anchors import Anchor, AnchorPools, Offset, PoolSnapshot, Slot
from kvcomm_core.blending import Term, place
from kvcomm_core.config import KVCommConfig
from kvcomm_core.criteria import Distances, judge, measure_distances, measure_embeddings
from kvcomm_core.estimators import Weights, weigh
from kvcomm_core.kv import KV, KVBuffer
from kvcomm_core.method import AgentTurn, Decoded, Plan, Session, distinct, in_next_round
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.packed import pack
from kvcomm_core.pool_state import Description, describe_pools, rebuild_pools
from kvcomm_core.recompute import recompute
from kvcomm_core.running_means import MeanOffset
from kvcomm_core.segments import BaseKV, Segments, SegmentSession, prepare_bases
from kvcomm_core.template import Span, Template, TokenIds


@dataclass(frozen=True, slots=True)
class Match:
    """The anchors from which a shareable sample is estimated, oldest first, and its distances to them."""

    anchors: tuple[Anchor, ...]
    distances: Distances
    repeat: bool = False
    """The anchors have exactly the sample's tokens. Only the newest one that has an offset for a slot is used there."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A sample declared a new anchor, with the offsets measured so far."""

    placeholder: str
    base: BaseKV
    offsets: dict[Slot, Offset] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Estimate:
    """The offset terms of one hole of this turn, and of the text after it."""

    placeholder: list[Term]
    text: list[Term]
    uses: list[tuple[Anchor, float]]
    """Anchors that count as used, with their weights."""


class KVComm:
    """The method's state across requests: the base KV of every template's text segments, and the anchor pools."""

    needs_answer_kv = True

    def __init__(self, model: LoadedModel, header_ids: TokenIds, config: KVCommConfig) -> None:
        self.config = config
        self.segments = Segments(model, header_ids)
        self.pools = AnchorPools(config)
        self.always_learn = False
        """Make every sample a new anchor, whatever the criterion says; used to fill pools before a timing."""

    @property
    def pool_bytes(self) -> int:
        return self.pools.nbytes

    def register(self, name: str, template: Template, filler: TokenIds) -> None:
        """Compute the base KV of the template's texts."""
        self.segments.register(name, template, filler)

    def describe_state(self) -> tuple[Description, list[Tensor]]:
        """Describe the pools as they are now. Together with newly registered templates they are everything the
        method has learnt."""
        return describe_pools(self.pools.state())

    def restore(self, description: Description, tensors: Sequence[Tensor]) -> None:
        """Replace the pools with those that ``describe_state`` described. The model's layout and the config must be
        the same."""
        devices = [group.device for group in self.segments.model.layout.groups]
        self.pools.restore(rebuild_pools(description, tensors, devices, self.config.placement))

    def open(self) -> "KVCommSession":
        """Open a session that sees the pools as they are now."""
        return KVCommSession(self)

    def prepare(self, sessions: Sequence[Session], turns: Sequence[AgentTurn]) -> None:
        """Prefill new samples alone, in one batch."""
        prepare_bases(self.segments, cast("Sequence[KVCommSession]", sessions), turns)


class KVCommSession(SegmentSession):
    """One request: the matches of its samples, and the anchors it drafts.

    A sample is one content of one placeholder and is judged once. When the round changes, a placeholder gets another
    content. That content is judged anew, and may become a second draft beside the earlier one.
    """

    def __init__(self, method: KVComm) -> None:
        super().__init__(method.segments)
        self._method = method
        self._config = method.config
        self._pools = method.pools.snapshot()
        self._pool_bytes = method.pools.nbytes
        self._always_learn = method.always_learn
        self._verdicts: dict[str, Match | Draft] = {}
        """The verdict on each placeholder's current content."""
        self._drafts: list[Draft] = []
        """The drafts of all rounds, in the order they were declared."""
        self._estimates: list[Estimate | None] = []
        """The estimates of the current turn, one per hole; None where there is no usable offset."""
        self._uses: list[tuple[str, Anchor, float]] = []

    @torch.inference_mode()
    def plan(self, turn: AgentTurn) -> Plan:
        """Reuse all but the last token of the prompt if every hole has a usable offset; else fall back."""
        placeholders = distinct(turn.template.holes)
        with turn.stopwatch.phase("match"):
            for placeholder in placeholders:
                self._judge(placeholder)
            self._estimates = [
                self._estimate(Slot(turn.name, hole), placeholder)
                for hole, placeholder in enumerate(turn.template.holes)
            ]
        anchors = sum(len(self._pool(placeholder).anchors) for placeholder in placeholders)
        lacking = [hole for hole, estimate in enumerate(self._estimates) if estimate is None]
        last = len(turn.prompt) - 1  # the engine runs the last token for its logits
        if lacking and (self._config.fallback == "dense" or not last):
            return Plan("dense", anchors=anchors, pool_bytes=self._pool_bytes)
        lost = [turn.prompt.holes[hole] for hole in lacking]
        lost_text = [turn.prompt.texts[hole + 1] for hole in lacking]
        in_last_text = len(turn.template.holes) - 1 in lacking
        return Plan(
            "partial" if lacking else "reuse",
            supplied=last,
            reused_text_tokens=sum(map(len, turn.prompt.texts)) - sum(map(len, lost_text)) - (not in_last_text),
            reused_placeholder_tokens=sum(map(len, turn.prompt.holes)) - sum(map(len, lost)),
            anchors=anchors,
            pool_bytes=self._pool_bytes,
        )

    @torch.inference_mode()
    def fill(self, turn: AgentTurn, plan: Plan, row: KVBuffer) -> Plan:
        """Blend and write each segment, then recompute the segments without a usable offset."""
        texts, prompt = self.segments.texts[turn.name], turn.prompt
        lost: list[Span] = []
        with turn.stopwatch.phase("blend"):
            self._place(texts[0], prompt.texts[0], [], plan.supplied, row)
            for hole, (placeholder, estimate) in enumerate(zip(turn.template.holes, self._estimates, strict=True)):
                if estimate is None:
                    lost += [prompt.holes[hole], prompt.texts[hole + 1]]
                    continue
                config = self._config
                terms = estimate.placeholder if config.placeholder_offset else []
                self._place(self.bases[placeholder], prompt.holes[hole], terms, plan.supplied, row)
                terms = estimate.text if config.text_offset else []
                self._place(texts[hole + 1], prompt.texts[hole + 1], terms, plan.supplied, row)
                self._uses += [(placeholder, anchor, weight) for anchor, weight in estimate.uses]
        if lost:
            with turn.stopwatch.phase("recompute"):
                positions_T = torch.cat([torch.arange(span.start, span.stop) for span in lost])
                recompute(self.segments.model, prompt.token_ids, row, positions_T)
        return plan

    @torch.inference_mode()
    def learn(self, turn: AgentTurn, decoded: Decoded) -> None:
        """Keep the answer's base KV, and add this turn's offsets to the drafted anchors."""
        if decoded.plan.mode != "reuse":
            for hole, placeholder in enumerate(turn.template.holes):
                verdict = self._verdicts[placeholder]
                if isinstance(verdict, Draft):
                    verdict.offsets[Slot(turn.name, hole)] = self._measure(turn, decoded.prompt_kv, hole, verdict.base)
        self.keep_answer(turn, decoded)

    def next_round(self) -> None:
        """Keep the verdict where the content stays. Content that has become history belongs to another pool, which
        judges it."""
        super().next_round()
        self._verdicts = {p: verdict for p, verdict in self._verdicts.items() if in_next_round(p) == p}

    def close(self) -> None:
        """Publish the drafted anchors and count the uses of the matched ones."""
        for placeholder, anchor, weight in self._uses:
            self._method.pools[placeholder].count_use(anchor, weight)
        for draft in self._drafts:
            if draft.offsets:
                base = draft.base
                anchor = Anchor.of(base.token_ids, base.kv, draft.offsets, self._config)
                self._method.pools[draft.placeholder].add(anchor)

    def _pool(self, placeholder: str) -> PoolSnapshot:
        return self._pools.get(placeholder, PoolSnapshot())

    def _judge(self, placeholder: str) -> None:
        """Decide once per sample whether it is shareable or a new anchor (Eq. 5)."""
        if placeholder in self._verdicts:
            return
        match = None if self._always_learn else self._match(placeholder)
        if match is None:
            self._declare_new(placeholder)
        else:
            self._verdicts[placeholder] = match

    def _declare_new(self, placeholder: str) -> None:
        draft = Draft(placeholder, self.bases[placeholder])
        self._verdicts[placeholder] = draft
        self._drafts.append(draft)

    def _match(self, placeholder: str) -> Match | None:
        """Return the anchors with which a sample is shareable; None if there are none."""
        base, pool, config = self.bases[placeholder], self._pool(placeholder), self._config
        if repeats := pool.find(base.token_ids):
            return Match(repeats, Distances(torch.zeros(len(repeats), dtype=torch.float64), norm=0.0), repeat=True)
        long_enough = tuple(anchor for anchor in pool.anchors if len(anchor) >= len(base.token_ids))
        reaches_any_length = config.criterion == "always" and config.estimator == "mean"
        candidates = pool.anchors if reaches_any_length else long_enough
        if len(candidates) < config.fewest_candidates:
            return None
        distances = embeddings_A = None
        if config.compares_samples:
            distances = measure_distances(base.kv.values, [anchor.base_values for anchor in candidates])
        if config.criterion == "entropy_literal":
            table_VE = self.segments.model.network.get_input_embeddings().weight
            embeddings_A = measure_embeddings(base.token_ids, [anchor.token_ids for anchor in candidates], table_VE)
        if not judge(config, distances, embeddings_A).shareable:
            return None
        if distances is None:
            return Match(candidates, Distances(torch.zeros(len(candidates), dtype=torch.float64), norm=0.0))
        if config.top_k is not None and config.top_k < len(candidates):
            nearest_K = distances.euclidean_A.topk(config.top_k, largest=False).indices
            candidates = tuple(candidates[index] for index in nearest_K.tolist())
            distances = Distances(distances.euclidean_A[nearest_K], distances.norm)
        return Match(candidates, distances)

    def _estimate(self, slot: Slot, placeholder: str) -> Estimate | None:
        """Return the terms of a hole's offset; None if its sample is new or no anchor has an offset for this slot."""
        match = self._verdicts[placeholder]
        if isinstance(match, Draft):
            return None
        if self._config.estimator == "mean":
            mean: MeanOffset | None = self._pool(placeholder).means.get(slot)
            if mean is not None:
                uses = [(anchor, 1.0) for anchor in (match.anchors[-1:] if match.repeat else match.anchors)]
                return Estimate([Term(mean.placeholder, 1.0)], [Term(mean.text, 1.0)], uses)
        else:
            having = [index for index, anchor in enumerate(match.anchors) if slot in anchor.offsets]
            if having:
                having = having[-1:] if match.repeat else having
                return self._weighted(slot, self.bases[placeholder], match, having)
        # The sample is shareable, but no anchor has met this template. Learn from the sample instead.
        self._declare_new(placeholder)
        return None

    def _weighted(self, slot: Slot, base: BaseKV, match: Match, having: list[int]) -> Estimate:
        anchors = [match.anchors[index] for index in having]
        if len(anchors) == 1:
            weights = Weights([1.0], [1.0])
        else:
            distances = Distances(match.distances.euclidean_A[having], match.distances.norm)
            weights = weigh(base.kv, anchors, distances, self._config)
        offsets = [anchor.offsets[slot] for anchor in anchors]
        return Estimate(
            [Term(o.placeholder.fetch(), w) for o, w in zip(offsets, weights.placeholder, strict=True)],
            [Term(o.text.fetch(), w) for o, w in zip(offsets, weights.text, strict=True)],
            [
                # Weights that differ from element to element count as equal shares.
                (anchor, weight if isinstance(weight, float) else 1.0 / len(anchors))
                for anchor, weight in zip(anchors, weights.placeholder, strict=True)
            ],
        )

    def _place(self, base: BaseKV, span: Span, terms: list[Term], supplied: int, row: KVBuffer) -> None:
        """Write one segment, as far as it lies within the first ``supplied`` tokens."""
        region = row.view(span.start, max(span.start, min(span.stop, supplied)))
        by = span.start if self._config.rotate_keys else base.origin
        place(base.kv, terms, region, self.segments.model.rope, by)

    def _measure(self, turn: AgentTurn, prompt_kv: KV, hole: int, base: BaseKV) -> Offset:
        """Return true minus base KV of a hole and of the text after it, from a prompt whose KV there is true."""
        span, after = turn.prompt.holes[hole], turn.prompt.texts[hole + 1]
        true = self.segments.to_local(prompt_kv.slice(span.start, span.stop), span.start)
        true_text = self.segments.to_local(prompt_kv.slice(after.start, after.stop), after.start)
        text_base = self.segments.texts[turn.name][hole + 1].kv
        offset, text_offset = true.minus(base.kv), true_text.minus(text_base)
        if self._config.estimator == "mean":
            return Offset(pack(offset), pack(text_offset))  # these go into running means, which stay unpacked
        storage, placement = self._config.storage, self._config.placement
        return Offset(pack(offset, storage, placement), pack(text_offset, storage, placement))
