"""One request of ``kvcomm``: judge its samples, estimate and place what is reused, and learn from what is prefilled."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch

from kvcomm_core.blending import Term, place
from kvcomm_core.config import KVCommConfig, NoReuseReason
from kvcomm_core.gates.attempt import Attempt, Facts, Tried
from kvcomm_core.gates.auditing import Auditor
from kvcomm_core.gates.gate import Gate, Judgement
from kvcomm_core.kv import KV, KVBuffer
from kvcomm_core.method import AgentTurn, Audit, Decoded, NoReuse, Plan, distinct, in_next_round
from kvcomm_core.methods.hole_estimate import HoleEstimate, estimate_hole, longest_met, meets, offsets_read, samples_met
from kvcomm_core.methods.lessons import Lessons
from kvcomm_core.methods.matching import Match, Refusal, match, rule_out
from kvcomm_core.packed import PackedKV
from kvcomm_core.pools.anchor_pools import AnchorPools, PoolSnapshot
from kvcomm_core.pools.anchors import Anchor, Slot
from kvcomm_core.pools.prefetching import Prefetcher
from kvcomm_core.recompute import Recomputed
from kvcomm_core.segments import BaseKV, Segments, SegmentSession
from kvcomm_core.selection.recompute_choice import RecomputeChoice
from kvcomm_core.template import Span, TokenIds

Lacking = Mapping[int, NoReuseReason]
"""The holes of a turn that have no usable offset, with the reason."""


class KVCommSession(SegmentSession):
    """One request: the matches of its samples, and the anchors it drafts.

    A sample is one content of one placeholder and is judged once. When the round changes, a placeholder gets another
    content, which is judged anew.
    """

    def __init__(
        self,
        segments: Segments,
        pools: AnchorPools,
        config: KVCommConfig,
        gate: Gate | None,
        auditor: Auditor,
        *,
        always_learn: bool,
        prefetcher: Prefetcher | None = None,
    ) -> None:
        super().__init__(segments)
        self._live, self._config, self._always_learn = pools, config, always_learn
        self._gate, self._auditor, self._prefetcher = gate, auditor, prefetcher
        self._pools = pools.snapshot()
        self._pool_bytes = pools.nbytes
        self._embeddings_VE = segments.model.network.get_input_embeddings().weight
        self._verdicts: dict[str, Match | Refusal] = {}
        """The verdict on each placeholder's current content. A sample that was refused is new."""
        self._lessons = Lessons(segments, config)
        self._choice = RecomputeChoice.parse(config.recompute)
        self._uses: list[tuple[str, Anchor, float]] = []
        # Of the current turn:
        self._estimates: list[HoleEstimate | None] = []
        """The estimates, one per hole; None where there is no usable offset, and empty in a turn ruled out."""
        self._attempt: Attempt | None = None
        """The turn as it would reuse; None if it cannot."""
        self._judgement: Judgement | None = None
        """What the gate said; None if it was not asked."""

    def is_ruled_out(self, turn: AgentTurn) -> bool:
        """Return whether this turn is prefilled densely, whatever the KV of its new samples."""
        return self._must_prefill(self._ruled_out(turn))

    @torch.inference_mode()
    def plan(self, turn: AgentTurn) -> Plan:
        """Reuse all but the last token of the prompt if every hole has a usable offset; else fall back."""
        last = self._choice.supplied(turn.prompt)
        self._estimates, self._attempt, self._judgement = [], None, None
        lacking = self._ruled_out(turn)
        if not self._must_prefill(lacking):
            # A criterion that does not compare samples leaves their distances to the weights.
            compares = not (self._config.criterion == "length" or self._config.takes_any_sample)
            with turn.stopwatch.phase("match" if compares else "estimate"):
                lacking = self._settle(turn)
        if self._must_prefill(lacking) or not last:
            return self._fall_back(turn, lacking)
        with turn.stopwatch.phase("estimate"):
            self._estimates = [
                None if hole in lacking else self._estimate(Slot(turn.name, hole), placeholder)
                for hole, placeholder in enumerate(turn.template.holes)
            ]
        self._attempt = self._to_attempt(turn, last)
        if self._gate is not None:
            self._judgement = self._gate.judge(self._attempt)
            if not self._judgement.accepted:
                return self._fall_back(turn, lacking or {0: "refused"})
            last = last if self._judgement.tried is None else len(turn.prompt) - 1
        return self._account(turn, lacking, last)

    @torch.inference_mode()
    def fill(self, turn: AgentTurn, plan: Plan, row: KVBuffer) -> Plan:
        """Blend and write each segment, and leave those without a usable offset to be recomputed, with what else is
        chosen. Write the leading text alone if the plan falls back to it. Copy the gate's attempt if there is one."""
        if plan.mode == "partial" and self._config.fallback == "prefix":
            with turn.stopwatch.phase("blend"):
                self._place(self.segments.texts[turn.name][0], turn.prompt.texts[0], [], plan.supplied, row)
            return plan
        for placeholder, estimate in zip(turn.template.holes, self._estimates, strict=True):
            self._uses += [] if estimate is None else [(placeholder, anchor, w) for anchor, w in estimate.uses]
        if tried := self._tried:
            with turn.stopwatch.phase("blend"):
                tried.row.view(0, plan.supplied).copy_to(row.view(0, plan.supplied))
            return plan
        with turn.stopwatch.phase("blend"):
            self._write(turn, plan.supplied, row, corrected=True)
        with turn.stopwatch.phase("recompute"):
            model, lost = self.segments.model, self._lost(turn)
            return replace(plan, pending=self._choice.choose(model, turn.prompt, plan.supplied, row, lost))

    def account(self, turn: AgentTurn, plan: Plan, done: Recomputed) -> Plan:
        """Count what was recomputed. What the gate has tried is counted in the plan already."""
        if tried := self._tried:
            ran_T = tried.recomputed.positions_T
            done = replace(done, positions_T=ran_T[ran_T < plan.supplied])
        return super().account(turn, plan, done)

    @torch.inference_mode()
    def audit(self, turn: AgentTurn, decoded: Decoded) -> Audit:
        """Measure the KL of some turns that reused, and of those that the gate kept from it."""
        return self._auditor.audit(turn, decoded, self._attempt)

    @torch.inference_mode()
    def learn(self, turn: AgentTurn, decoded: Decoded) -> None:
        """Keep the answer's base KV, and the offsets of this turn that are true and teach something."""
        truth = self._auditor.truth
        lacking = self._settle(turn) if truth is None and decoded.plan.mode != "reuse" else {}
        everything = truth is not None or (
            decoded.plan.falls_back and (self._config.learns == "dense_turns" or self._judgement is not None)
        )
        prompt_kv, until = (truth, len(turn.prompt)) if truth else (decoded.prompt_kv, self._true_until(turn, decoded))
        for span, placeholder in zip(turn.prompt.holes, turn.template.holes, strict=True):
            if placeholder not in self.bases:  # it ran in place
                kv = decoded.prompt_kv.slice(span.start, span.stop)
                self.bases[placeholder] = self.segments.to_base(span.of(turn.prompt.token_ids), kv, span.start)
        for hole, placeholder in enumerate(turn.template.holes):
            verdict = self._verdicts.get(placeholder)
            is_repeat = isinstance(verdict, Match) and verdict.repeat
            if hole not in lacking and (not everything or is_repeat):
                continue
            if turn.prompt.texts[hole + 1].stop <= until:
                self._lessons.measure(turn, hole, self.bases[placeholder], prompt_kv)
        self.keep_answer(turn, decoded)

    def offsets_of(self, name: str, placeholders: Sequence[str]) -> list[PackedKV]:
        """Return the offsets that a turn with the template ``name`` would read for what is judged already."""
        judged = [(Slot(name, hole), self._verdicts.get(placeholder)) for hole, placeholder in enumerate(placeholders)]
        return [offset for slot, found in judged if isinstance(found, Match) for offset in offsets_read(slot, found)]

    def next_round(self) -> None:
        """Keep the verdict where the content stays. Content that has become history belongs to another pool, which
        judges it."""
        super().next_round()
        self._verdicts = {p: verdict for p, verdict in self._verdicts.items() if in_next_round(p) == p}
        self._lessons.next_round()

    def close(self) -> None:
        """Publish the drafted anchors and the audits, and count the uses of the matched anchors."""
        for placeholder, anchor, weight in self._uses:
            self._live[placeholder].count_use(anchor, weight)
        self._lessons.publish(self._live)
        self._auditor.publish()

    def _pool(self, placeholder: str) -> PoolSnapshot:
        return self._pools.get(placeholder, PoolSnapshot())

    def _ruled_out(self, turn: AgentTurn) -> Lacking:
        """Return the holes that surely lack an offset, by what is known without the base KV of new samples."""
        lacking: dict[int, NoReuseReason] = {}
        for hole, (placeholder, span) in enumerate(zip(turn.template.holes, turn.prompt.holes, strict=True)):
            verdict, pool = self._verdicts.get(placeholder), self._pool(placeholder)
            if isinstance(verdict, Refusal):
                lacking[hole] = verdict.reason
            elif verdict is None and (refusal := self._rule_out(span.of(turn.prompt.token_ids), pool)):
                lacking[hole] = refusal.reason
            elif not meets(Slot(turn.name, hole), verdict.anchors if verdict else pool.anchors, pool, self._config):
                lacking[hole] = "slot_unmet"
        return lacking

    def _rule_out(self, token_ids: TokenIds, pool: PoolSnapshot) -> Refusal | None:
        return Refusal("cold") if self._always_learn else rule_out(token_ids, pool, self._config)

    def _must_prefill(self, lacking: Lacking) -> bool:
        """Return whether these holes ask for a turn without estimates. A pool that is cold, or has not met the reader,
        needs one with any fallback, since only true KV teaches."""
        reasons = set(lacking.values())
        return bool(reasons) and (self._config.fallback != "partial" or not reasons.isdisjoint(("cold", "slot_unmet")))

    def _settle(self, turn: AgentTurn) -> Lacking:
        """Judge the samples that have no verdict yet, and refuse those whose anchors have not met this template. Return
        the holes of refused samples."""
        for hole, (placeholder, span) in enumerate(zip(turn.template.holes, turn.prompt.holes, strict=True)):
            pool = self._pool(placeholder)
            if placeholder not in self._verdicts:
                base = self.bases.get(placeholder) or _not_yet(span.of(turn.prompt.token_ids))
                found = self._rule_out(base.token_ids, pool) or match(base, pool, self._config, self._embeddings_VE)
                self._verdicts[placeholder] = found
            verdict = self._verdicts[placeholder]
            slot = Slot(turn.name, hole)
            if isinstance(verdict, Match) and not meets(slot, verdict.anchors, pool, self._config):
                self._verdicts[placeholder] = Refusal("slot_unmet", verdict.verdict)
        return {
            hole: verdict.reason
            for hole, placeholder in enumerate(turn.template.holes)
            if isinstance(verdict := self._verdicts[placeholder], Refusal)
        }

    def _estimate(self, slot: Slot, placeholder: str) -> HoleEstimate:
        found = self._verdicts[placeholder]
        assert isinstance(found, Match)  # noqa: S101 - it does not lack an offset
        base = self.bases.get(placeholder) or _not_yet(())
        return estimate_hole(slot, found, base, self._pool(placeholder), self._config).fetch(self._prefetcher)

    def _to_attempt(self, turn: AgentTurn, supplied: int) -> Attempt:
        """Return the turn as it would reuse, from the current estimates."""
        holes = zip(turn.template.holes, turn.prompt.holes, self._estimates, strict=True)
        met, unseen = [], 0
        for hole, (placeholder, span, estimate) in enumerate(holes):
            found = self._verdicts[placeholder]
            if estimate is not None and isinstance(found, Match) and placeholder in self.bases:
                slot, pool = Slot(turn.name, hole), self._pool(placeholder)
                met.append(samples_met(slot, found.anchors, pool, self._config))
                unseen += max(0, len(span) - longest_met(slot, found.anchors, pool, self._config))
        lost = self._lost(turn)
        estimated = supplied - len(turn.prompt.texts[0].before(supplied)) - sum(len(s.before(supplied)) for s in lost)
        return Attempt(
            model=self.segments.model,
            turn=turn,
            facts=Facts(turn.name, min(met, default=0), estimated, unseen),
            supplied=supplied,
            choice=self._choice,
            lost=lost,
            write=lambda row, corrected: self._write(turn, supplied, row, corrected=corrected),
        )

    def _fall_back(self, turn: AgentTurn, lacking: Lacking) -> Plan:
        """Return the plan of a turn without estimates: dense, or with the exact KV of the leading text."""
        keeps = self._config.fallback == "prefix" and lacking
        return self._account(turn, lacking, len(turn.prompt.texts[0].before(len(turn.prompt) - 1)) if keeps else 0)

    def _account(self, turn: AgentTurn, lacking: Lacking, supplied: int) -> Plan:
        """Return the plan with its reasons and scores; dense if nothing is supplied."""
        placeholders = distinct(turn.template.holes)
        verdicts = [found.verdict for found in map(self._verdicts.get, placeholders) if found is not None]
        judged = self._judgement
        plan = Plan(
            "dense",
            recomputed_tokens=0.0 if judged is None else judged.tokens,
            judged_kl=None if judged is None else judged.kl,
            anchors=sum(len(self._pool(placeholder).anchors) for placeholder in placeholders),
            pool_bytes=self._pool_bytes,
            no_reuse=NoReuse(lacking[min(lacking)], turn.template.holes[min(lacking)]) if lacking else None,
            entropy_ratio=_largest(v.entropy_ratio for v in verdicts),
            nearest_distance=_largest(v.nearest_distance for v in verdicts),
        )
        return replace(plan, mode="partial" if lacking else "reuse", supplied=supplied) if supplied else plan

    def _true_until(self, turn: AgentTurn, decoded: Decoded) -> int:
        """Return up to which token the turn's KV is true: all of a turn that falls back, and of any other the tokens
        before the first that is estimated. KV recomputed over estimated KV is not the truth of its context."""
        if decoded.plan.falls_back:
            return len(turn.prompt)
        estimated = [hole for hole, estimate in enumerate(self._estimates) if estimate is not None]
        return turn.prompt.holes[estimated[0]].start if estimated else len(turn.prompt)

    def _lost(self, turn: AgentTurn) -> list[Span]:
        """Return the spans of the holes without an estimate, and of the texts after them; and of the holes whose
        content has no base KV yet."""
        lost: list[Span] = []
        for hole, (placeholder, estimate) in enumerate(zip(turn.template.holes, self._estimates, strict=True)):
            if estimate is None or placeholder not in self.bases:
                lost.append(turn.prompt.holes[hole])
            if estimate is None:
                lost.append(turn.prompt.texts[hole + 1])
        return lost

    def _write(self, turn: AgentTurn, supplied: int, row: KVBuffer, *, corrected: bool) -> None:
        """Write every segment with an estimate, as far as it lies within the first ``supplied`` tokens; without its
        offsets unless ``corrected``."""
        texts, prompt, config = self.segments.texts[turn.name], turn.prompt, self._config
        self._place(texts[0], prompt.texts[0], [], supplied, row)
        for hole, (placeholder, estimate) in enumerate(zip(turn.template.holes, self._estimates, strict=True)):
            if estimate is not None:
                if placeholder in self.bases:
                    terms = estimate.placeholder if corrected and config.placeholder_offset else []
                    self._place(self.bases[placeholder], prompt.holes[hole], terms, supplied, row)
                terms = estimate.text if corrected and config.text_offset else []
                self._place(texts[hole + 1], prompt.texts[hole + 1], terms, supplied, row)

    def _place(self, base: BaseKV, span: Span, terms: list[Term], supplied: int, row: KVBuffer) -> None:
        """Write one segment, as far as it lies within the first ``supplied`` tokens."""
        within = span.before(supplied)
        by = span.start if self._config.rotate_keys else base.origin
        place(base.kv, terms, row.view(within.start, within.stop), self.segments.model.rope, by)

    @property
    def _tried(self) -> Tried | None:
        """The gate's attempt that the turn is answered from; None if it made none, or did not accept it."""
        return self._judgement.tried if self._judgement is not None and self._judgement.accepted else None


def _not_yet(token_ids: TokenIds) -> BaseKV:
    """Return the base KV of a sample that will be prefilled in place. Until then nobody reads it."""
    return BaseKV(token_ids, KV((), ()), origin=0)


def _largest(scores: Iterable[float | None]) -> float | None:
    """Return the largest of the known scores; None if none is known."""
    return max((score for score in scores if score is not None), default=None)
