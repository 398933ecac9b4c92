"""What one request will teach the pools: new anchors, drafted where the KV of a prompt is true."""

from dataclasses import dataclass, field, replace

from kvcomm_core.config import KVCommConfig
from kvcomm_core.kv import KV
from kvcomm_core.method import AgentTurn, in_next_round
from kvcomm_core.packed import pack
from kvcomm_core.pools.anchor_pools import AnchorPools
from kvcomm_core.pools.anchors import Anchor, Offset, Slot
from kvcomm_core.segments import BaseKV, Segments


@dataclass(frozen=True, slots=True)
class _Draft:
    """A sample that becomes an anchor, with the offsets measured so far."""

    placeholder: str
    base: BaseKV
    offsets: dict[Slot, Offset] = field(default_factory=dict)


class Lessons:
    """The drafts of one request. When the round changes, a placeholder gets another content, which may become a second
    draft beside the earlier one."""

    def __init__(self, segments: Segments, config: KVCommConfig) -> None:
        self._segments, self._config = segments, config
        self._current: dict[str, _Draft] = {}
        self._drafts: list[_Draft] = []

    def measure(self, turn: AgentTurn, hole: int, base: BaseKV, prompt_kv: KV) -> None:
        """Add true minus base KV of a hole and of the text after it to the draft of the hole's sample. ``prompt_kv`` is
        true there."""
        placeholder = turn.template.holes[hole]
        if placeholder not in self._current:
            self._current[placeholder] = _Draft(placeholder, base)
            self._drafts.append(self._current[placeholder])
        span, after = turn.prompt.holes[hole], turn.prompt.texts[hole + 1]
        true = self._segments.to_local(prompt_kv.slice(span.start, span.stop), span.start)
        true_text = self._segments.to_local(prompt_kv.slice(after.start, after.stop), after.start)
        text_base = self._segments.texts[turn.name][hole + 1].kv
        offset, text_offset = true.minus(base.kv), true_text.minus(text_base)
        self._current[placeholder].offsets[Slot(turn.name, hole)] = self._packed(offset, text_offset)

    def next_round(self) -> None:
        """Forget which drafts are current where the content changes."""
        self._current = {p: draft for p, draft in self._current.items() if in_next_round(p) == p}

    def publish(self, pools: AnchorPools) -> None:
        """Add the drafts to the pools, in the order in which they were begun."""
        made: dict[int, Anchor] = {}
        for draft in self._drafts:
            base = draft.base
            # Content that has become history drafts again, and both anchors hold the same base values.
            if id(base) not in made:
                made[id(base)] = Anchor.of(base.token_ids, base.kv, {}, self._config)
            pools[draft.placeholder].add(replace(made[id(base)], offsets=draft.offsets), base.kv)

    def _packed(self, offset: KV, text_offset: KV) -> Offset:
        if self._config.summarises:
            return Offset(pack(offset), pack(text_offset))  # these go into running sums, which stay unpacked
        storage, placement = self._config.storage, self._config.placement
        return Offset(pack(offset, storage, placement), pack(text_offset, storage, placement))
