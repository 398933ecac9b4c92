"""One request of ``kvcomm``: judge its samples, estimate and place what is reused, and learn from what is prefilled."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch

from kvcomm_core.blending import Term, place
from kvcomm_core.config import KVCommConfig, NoReuseReason
from kvcomm_core.kv import KV, KVBuffer
from kvcomm_core.method import AgentTurn, Decoded, NoReuse, Plan, distinct, in_next_round
from kvcomm_core.methods.hole_estimate import HoleEstimate, estimate_hole, meets
from kvcomm_core.methods.matching import Match, Refusal, match, rule_out
from kvcomm_core.packed import pack
from kvcomm_core.pools.anchor_pools import AnchorPools, PoolSnapshot
from kvcomm_core.pools.anchors import Anchor, Offset, Slot
from kvcomm_core.recompute_choice import RecomputeChoice
from kvcomm_core.segments import BaseKV, Segments, SegmentSession
from kvcomm_core.template import Span, TokenIds

Lacking = Mapping[int, NoReuseReason]
"""The holes of a turn that have no usable offset, with the reason."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A sample declared a new anchor, with the offsets measured so far."""

    placeholder: str
    refusal: Refusal
    base: BaseKV
    offsets: dict[Slot, Offset] = field(default_factory=dict)


class KVCommSession(SegmentSession):
    """One request: the matches of its samples, and the anchors it drafts.

    A sample is one content of one placeholder and is judged once. When the round changes, a placeholder gets another
    content. That content is judged anew, and may become a second draft beside the earlier one.
    """

    def __init__(self, segments: Segments, pools: AnchorPools, config: KVCommConfig, *, always_learn: bool) -> None:
        super().__init__(segments)
        self._live, self._config, self._always_learn = pools, config, always_learn
        self._pools = pools.snapshot()
        self._pool_bytes = pools.nbytes
        self._embeddings_VE = segments.model.network.get_input_embeddings().weight
        self._verdicts: dict[str, Match | Draft] = {}
        """The verdict on each placeholder's current content."""
        self._drafts: list[Draft] = []
        """The drafts of all rounds, in the order they were declared."""
        self._choice = RecomputeChoice.parse(config.recompute)
        self._estimates: list[HoleEstimate | None] = []
        """The estimates of the current turn, one per hole; None where there is no usable offset."""
        self._uses: list[tuple[str, Anchor, float]] = []

    def is_ruled_out(self, turn: AgentTurn) -> bool:
        """Return whether this turn is prefilled densely, whatever the KV of its new samples."""
        return self._must_prefill(self._ruled_out(turn))

    @torch.inference_mode()
    def plan(self, turn: AgentTurn) -> Plan:
        """Reuse all but the last token of the prompt if every hole has a usable offset; else fall back."""
        last = self._choice.supplied(turn.prompt)
        lacking = self._ruled_out(turn)
        if not self._must_prefill(lacking):
            # A criterion that does not compare samples leaves their distances to the weights.
            with turn.stopwatch.phase("estimate" if self._config.criterion in ("length", "always") else "match"):
                lacking = self._settle(turn)
        dense = self._must_prefill(lacking) or not last
        if not dense:
            with turn.stopwatch.phase("estimate"):
                self._estimates = [
                    None if hole in lacking else self._estimate(Slot(turn.name, hole), placeholder)
                    for hole, placeholder in enumerate(turn.template.holes)
                ]
        return self._account(turn, lacking, 0 if dense else last)

    @torch.inference_mode()
    def fill(self, turn: AgentTurn, plan: Plan, row: KVBuffer) -> Plan:
        """Blend and write each segment. Recompute the segments without a usable offset, and what else is chosen."""
        texts, prompt, config = self.segments.texts[turn.name], turn.prompt, self._config
        lost: list[Span] = []
        with turn.stopwatch.phase("blend"):
            self._place(texts[0], prompt.texts[0], [], plan.supplied, row)
            for hole, (placeholder, estimate) in enumerate(zip(turn.template.holes, self._estimates, strict=True)):
                if estimate is None:
                    lost += [prompt.holes[hole], prompt.texts[hole + 1]]
                    continue
                terms = estimate.placeholder if config.placeholder_offset else []
                self._place(self.bases[placeholder], prompt.holes[hole], terms, plan.supplied, row)
                terms = estimate.text if config.text_offset else []
                self._place(texts[hole + 1], prompt.texts[hole + 1], terms, plan.supplied, row)
                self._uses += [(placeholder, anchor, weight) for anchor, weight in estimate.uses]
        with turn.stopwatch.phase("recompute"):
            done = self._choice.run(self.segments.model, prompt, plan.supplied, row, lost)
        return self.with_counts(turn, plan, done)

    @torch.inference_mode()
    def learn(self, turn: AgentTurn, decoded: Decoded) -> None:
        """Keep the answer's base KV, and add to the drafted anchors the offsets of this turn that are true."""
        if decoded.plan.mode != "reuse":
            lacking = self._settle(turn)
            for hole in lacking:
                draft = self._verdicts[turn.template.holes[hole]]
                assert isinstance(draft, Draft)  # noqa: S101 - it lacks an offset
                if turn.prompt.texts[hole + 1].stop <= self._true_until(turn, decoded.plan):
                    draft.offsets[Slot(turn.name, hole)] = self._measure(turn, decoded.prompt_kv, hole, draft.base)
        self.keep_answer(turn, decoded)

    def next_round(self) -> None:
        """Keep the verdict where the content stays. Content that has become history belongs to another pool, which
        judges it."""
        super().next_round()
        self._verdicts = {p: verdict for p, verdict in self._verdicts.items() if in_next_round(p) == p}

    def close(self) -> None:
        """Publish the drafted anchors and count the uses of the matched ones."""
        for placeholder, anchor, weight in self._uses:
            self._live[placeholder].count_use(anchor, weight)
        made: dict[int, Anchor] = {}
        for draft in self._drafts:
            if draft.offsets:
                base = draft.base
                # Content that has become history drafts again, and both anchors hold the same base values.
                if id(base) not in made:
                    made[id(base)] = Anchor.of(base.token_ids, base.kv, {}, self._config)
                self._live[draft.placeholder].add(replace(made[id(base)], offsets=draft.offsets), base.kv)

    def _pool(self, placeholder: str) -> PoolSnapshot:
        return self._pools.get(placeholder, PoolSnapshot())

    def _ruled_out(self, turn: AgentTurn) -> Lacking:
        """Return the holes that surely lack an offset, by what is known without the base KV of new samples."""
        lacking: dict[int, NoReuseReason] = {}
        for hole, (placeholder, span) in enumerate(zip(turn.template.holes, turn.prompt.holes, strict=True)):
            verdict, pool = self._verdicts.get(placeholder), self._pool(placeholder)
            if isinstance(verdict, Draft):
                lacking[hole] = verdict.refusal.reason
            elif verdict is None and (refusal := self._rule_out(span.of(turn.prompt.token_ids), pool)):
                lacking[hole] = refusal.reason
            elif not meets(Slot(turn.name, hole), verdict.anchors if verdict else pool.anchors, pool, self._config):
                lacking[hole] = "slot_unmet"
        return lacking

    def _rule_out(self, token_ids: TokenIds, pool: PoolSnapshot) -> Refusal | None:
        return Refusal("cold") if self._always_learn else rule_out(token_ids, pool, self._config)

    def _must_prefill(self, lacking: Lacking) -> bool:
        """Return whether these holes ask for a dense turn. A pool that is cold, or has not met the reader, needs one
        with either fallback, since only true KV teaches."""
        reasons = set(lacking.values())
        return bool(reasons) and (self._config.fallback == "dense" or not reasons.isdisjoint(("cold", "slot_unmet")))

    def _settle(self, turn: AgentTurn) -> Lacking:
        """Judge the samples that have no verdict yet, and declare those new whose anchors have not met this template.
        Return the holes of new samples."""
        for hole, placeholder in enumerate(turn.template.holes):
            pool = self._pool(placeholder)
            if placeholder not in self._verdicts:
                base = self.bases[placeholder]
                found = self._rule_out(base.token_ids, pool) or match(base, pool, self._config, self._embeddings_VE)
                if isinstance(found, Match):
                    self._verdicts[placeholder] = found
                else:
                    self._declare_new(placeholder, found)
            verdict = self._verdicts[placeholder]
            slot = Slot(turn.name, hole)
            if isinstance(verdict, Match) and not meets(slot, verdict.anchors, pool, self._config):
                self._declare_new(placeholder, Refusal("slot_unmet", verdict.verdict))
        return {
            hole: verdict.refusal.reason
            for hole, placeholder in enumerate(turn.template.holes)
            if isinstance(verdict := self._verdicts[placeholder], Draft)
        }

    def _declare_new(self, placeholder: str, refusal: Refusal) -> None:
        draft = Draft(placeholder, refusal, self.bases[placeholder])
        self._verdicts[placeholder] = draft
        self._drafts.append(draft)

    def _estimate(self, slot: Slot, placeholder: str) -> HoleEstimate:
        found = self._verdicts[placeholder]
        assert isinstance(found, Match)  # noqa: S101 - it does not lack an offset
        return estimate_hole(slot, found, self.bases[placeholder], self._pool(placeholder), self._config).fetch()

    def _account(self, turn: AgentTurn, lacking: Lacking, supplied: int) -> Plan:
        """Return the plan with its reasons and scores; dense if nothing is supplied."""
        placeholders = distinct(turn.template.holes)
        verdicts = [
            found.verdict if isinstance(found, Match) else found.refusal.verdict
            for found in map(self._verdicts.get, placeholders)
            if found is not None
        ]
        plan = Plan(
            "dense",
            anchors=sum(len(self._pool(placeholder).anchors) for placeholder in placeholders),
            pool_bytes=self._pool_bytes,
            no_reuse=NoReuse(lacking[min(lacking)], turn.template.holes[min(lacking)]) if lacking else None,
            entropy_ratio=_largest(v.entropy_ratio for v in verdicts),
            nearest_distance=_largest(v.nearest_distance for v in verdicts),
        )
        return replace(plan, mode="partial" if lacking else "reuse", supplied=supplied) if supplied else plan

    def _true_until(self, turn: AgentTurn, plan: Plan) -> int:
        """Return up to which token the turn's KV is true: all of a dense turn, and of any other the tokens before the
        first that is estimated. KV that is recomputed over estimated KV is not the truth of its context."""
        if plan.mode == "dense":
            return len(turn.prompt)
        estimated = [hole for hole, estimate in enumerate(self._estimates) if estimate is not None]
        return turn.prompt.holes[estimated[0]].start if estimated else len(turn.prompt)

    def _place(self, base: BaseKV, span: Span, terms: list[Term], supplied: int, row: KVBuffer) -> None:
        """Write one segment, as far as it lies within the first ``supplied`` tokens."""
        within = span.before(supplied)
        by = span.start if self._config.rotate_keys else base.origin
        place(base.kv, terms, row.view(within.start, within.stop), self.segments.model.rope, by)

    def _measure(self, turn: AgentTurn, prompt_kv: KV, hole: int, base: BaseKV) -> Offset:
        """Return true minus base KV of a hole and of the text after it, from a prompt whose KV there is true."""
        span, after = turn.prompt.holes[hole], turn.prompt.texts[hole + 1]
        true = self.segments.to_local(prompt_kv.slice(span.start, span.stop), span.start)
        true_text = self.segments.to_local(prompt_kv.slice(after.start, after.stop), after.start)
        text_base = self.segments.texts[turn.name][hole + 1].kv
        offset, text_offset = true.minus(base.kv), true_text.minus(text_base)
        if self._config.summarises:
            return Offset(pack(offset), pack(text_offset))  # these go into running sums, which stay unpacked
        storage, placement = self._config.storage, self._config.placement
        return Offset(pack(offset, storage, placement), pack(text_offset, storage, placement))


def _largest(scores: Iterable[float | None]) -> float | None:
    """Return the largest of the known scores; None if none is known."""
    return max((score for score in scores if score is not None), default=None)
