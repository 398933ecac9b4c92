"""A slow, literal KVCOMM after the paper, as the reference for the engine.

It recomputes everything with transformers' own cache, token by token and head by head. It shares only the model and the
templates with the engine. A placeholder sample is shareable if ``min_anchors`` anchors are at least as long
(gamma = 1), pools are unbounded, and the estimator is ``l2_norm``.

History is explicit: every answer and tool result of a request is in its own list with its round, and holes are looked
up there. Nothing is renamed from round to round.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import DynamicCache

from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import Template

Ids = tuple[int, ...]
Layers = list[tuple[Tensor, Tensor]]
"""Keys and values of a segment per layer, ``[H, T, D]``."""


@dataclass(frozen=True)
class SlowTurn:
    """A turn with one of the templates: its agent, and what the agent's tool then returns."""

    template: str
    agent: str
    condition: Ids | None = None


@dataclass
class SlowAnchor:
    ids: Ids
    base: Layers
    offsets: dict[tuple[str, int], tuple[Layers, Layers]] = field(default_factory=dict)


class SlowKVComm:
    def __init__(
        self,
        model: LoadedModel,
        templates: dict[str, Template],
        *,
        header: Ids,
        filler: Ids,
        blend_temperature: float,
        min_anchors: int,
        max_new_tokens: int,
    ) -> None:
        self.model, self.templates, self.header = model, templates, header
        self.blend_temperature, self.min_anchors, self.max_new_tokens = blend_temperature, min_anchors, max_new_tokens
        self.pools: dict[str, list[SlowAnchor]] = {}
        self.texts: dict[str, list[Layers]] = {}
        for agent, template in templates.items():
            prompt = template.fill(dict.fromkeys(template.holes, filler))
            whole = self.prefill(prompt.token_ids)
            self.texts[agent] = [self.local(whole, span.start, span.stop) for span in prompt.texts]

    def request(self, question: Ids, rounds: list[list[SlowTurn]] | None = None) -> list[tuple[str, Tensor, Ids]]:
        """Run one request, by default one round of all templates; return each turn's mode, first logits and answer."""
        rounds = rounds or [[SlowTurn(name, name) for name in self.templates]]
        asked = self.prefill(self.header + question)
        known = {("user_question", None): (question, self.local(asked, len(self.header), len(asked[0][0][0])))}
        drafts: dict[tuple[str, int | None], SlowAnchor] = {}
        turns = []
        for now, of_this_round in enumerate(rounds):
            for turn in of_this_round:
                template = self.templates[turn.template]
                # Maps each hole to the pool that judges its content, and to that content.
                samples = [(hole, *self.look_up(hole, now, known)) for hole in template.holes]
                for index, (hole, source, ids, base) in enumerate(samples):
                    if (hole, source) not in drafts and not self.usable(hole, ids, base, (turn.template, index)):
                        drafts[hole, source] = SlowAnchor(ids, base)
                prompt = template.fill({hole: ids for hole, _, ids, _ in samples})
                if any((hole, source) in drafts for hole, source, _, _ in samples):
                    mode, kv = "dense", self.prefill(prompt.token_ids[:-1])
                    true = self.prefill(prompt.token_ids)
                    for index, (hole, source, _, base) in enumerate(samples):
                        span, after = prompt.holes[index], prompt.texts[index + 1]
                        if (hole, source) in drafts:
                            drafts[hole, source].offsets[turn.template, index] = (
                                subtract(self.local(true, span.start, span.stop), base),
                                subtract(
                                    self.local(true, after.start, after.stop), self.texts[turn.template][index + 1]
                                ),
                            )
                else:
                    mode, kv = "reuse", self.assemble(turn.template, prompt.texts, prompt.holes, samples)
                logits, answer, answer_kv = self.decode(kv, prompt.token_ids[-1])
                turns.append((mode, logits, answer))
                start = len(prompt.token_ids)
                known[f"agent_{turn.agent}", now] = answer, self.local(answer_kv, start, start + len(answer))
                if turn.condition is not None:
                    alone = self.prefill(self.header + turn.condition)
                    stop = len(self.header) + len(turn.condition)
                    known[f"condition_{turn.agent}", now] = turn.condition, self.local(alone, len(self.header), stop)
        for (hole, _), anchor in drafts.items():
            self.pools.setdefault(hole, []).append(anchor)
        return turns

    def look_up(self, hole, now, known):  # type: ignore[no-untyped-def]
        if hole == "user_question":
            return None, *known[hole, None]
        whose, _, when = hole.replace("_current", "_history_0").rpartition("_history_")
        source = now - int(when)
        return source, *known[whose, source]

    def usable(self, hole: str, ids: Ids, base: Layers, slot: tuple[str, int]) -> bool:
        """Return whether a sample may be estimated in this slot: it is a repeat, or enough anchors are as long, and at
        least one of them has met the slot."""
        pool = self.pools.get(hole, [])
        repeats = [anchor for anchor in pool if repeats_it(anchor, ids, base)]
        longer = [anchor for anchor in pool if len(anchor.ids) >= len(ids)]
        if not repeats and len(longer) < self.min_anchors:
            return False
        return any(slot in anchor.offsets for anchor in repeats or longer)

    def assemble(self, name, texts, holes, samples) -> Layers:  # type: ignore[no-untyped-def]
        segments = [(texts[0].start, self.texts[name][0])]
        for index, (hole, _, ids, hole_base) in enumerate(samples):
            anchors, weights = self.weigh(hole, ids, hole_base, (name, index))
            offsets = [anchor.offsets[name, index] for anchor in anchors]
            segments.append((holes[index].start, blend(hole_base, [o[0] for o in offsets], weights)))
            base = self.texts[name][index + 1]
            segments.append((texts[index + 1].start, blend(base, [o[1] for o in offsets], weights)))
        layers = []
        for layer in range(len(segments[0][1])):
            keys = torch.cat([self.rotate(kv[layer][0], start, layer) for start, kv in segments], dim=1)
            values_HTD = torch.cat([kv[layer][1] for _, kv in segments], dim=1)
            layers.append((keys[:, :-1], values_HTD[:, :-1]))
        return layers

    def weigh(self, hole: str, ids: Ids, base: Layers, slot: tuple[str, int]) -> tuple[list[SlowAnchor], list[float]]:
        pool = [anchor for anchor in self.pools[hole] if slot in anchor.offsets]
        repeats = [anchor for anchor in pool if repeats_it(anchor, ids, base)]
        if repeats:
            return [repeats[-1]], [1.0]
        anchors = [anchor for anchor in pool if len(anchor.ids) >= len(ids)]
        exponentials = []
        for anchor in anchors:
            pairs = [(v, a[:, : len(ids)]) for (_, v), (_, a) in zip(base, anchor.base, strict=True)]
            total = sum(float((v**2).sum()) for v, _ in pairs)
            difference = sum(float(((v - a) ** 2).sum()) for v, a in pairs)
            distance = math.sqrt(difference / total) if ids else 0.0
            exponentials.append(math.exp(-distance / self.blend_temperature))
        return anchors, [e / sum(exponentials) for e in exponentials]

    @torch.inference_mode()
    def prefill(self, ids: Ids) -> Layers:
        cache = DynamicCache()
        if ids:
            self.model.network(torch.tensor([ids]), past_key_values=cache, use_cache=True)
        return [(layer.keys[0], layer.values[0]) for layer in cache.layers]

    @torch.inference_mode()
    def decode(self, kv: Layers, last_id: int) -> tuple[Tensor, Ids, Layers]:
        cache = DynamicCache()
        for index, (keys, values) in enumerate(kv):
            cache.update(keys[None].clone(), values[None].clone(), index)
        first: Tensor | None = None
        answer: list[int] = []
        token = last_id
        while True:
            position = torch.tensor([[cache.get_seq_length()]])
            output = self.model.network(
                torch.tensor([[token]]), position_ids=position, past_key_values=cache, use_cache=True
            )
            logits = output.logits[0, -1]
            first = logits if first is None else first
            if len(answer) == self.max_new_tokens:
                return first, tuple(answer), [(layer.keys[0], layer.values[0]) for layer in cache.layers]
            token = int(logits.argmax())
            answer.append(token)

    def local(self, kv: Layers, start: int, stop: int) -> Layers:
        return [(self.rotate(k[:, start:stop], -start, layer), v[:, start:stop]) for layer, (k, v) in enumerate(kv)]

    def rotate(self, keys_HTD: Tensor, by: int, layer: int) -> Tensor:
        rope = self.model.rope
        angles = torch.tensor(rope.inv_freq[layer if len(rope.inv_freq) > 1 else 0], dtype=torch.float64) * by
        rotated = 2 * len(angles)
        if rope.pairs == "neighbours":
            first, second = slice(0, rotated, 2), slice(1, rotated, 2)
        else:
            first, second = slice(0, rotated // 2), slice(rotated // 2, rotated)
        turned = torch.complex(keys_HTD[..., first].double(), keys_HTD[..., second].double())
        turned = turned * torch.polar(torch.ones_like(angles), angles)
        keys = keys_HTD.clone()
        keys[..., first], keys[..., second] = turned.real.float(), turned.imag.float()
        return keys


def repeats_it(anchor: SlowAnchor, ids: Ids, base: Layers) -> bool:
    """Return whether an anchor is the same tokens with the same base KV: an answer may come again to another
    question."""
    pairs = zip(anchor.base, base, strict=True)
    return anchor.ids == ids and all(torch.allclose(theirs, ours, atol=1e-3) for (_, theirs), (_, ours) in pairs)


def subtract(a: Layers, b: Layers) -> Layers:
    return [(ka - kb, va - vb) for (ka, va), (kb, vb) in zip(a, b, strict=True)]


def blend(base: Layers, offsets: list[Layers], weights: list[float]) -> Layers:
    blended = []
    for layer, (keys, values) in enumerate(base):
        tokens = keys.shape[1]
        for offset, weight in zip(offsets, weights, strict=True):
            keys = keys + weight * offset[layer][0][:, :tokens]
            values = values + weight * offset[layer][1][:, :tokens]
        blended.append((keys, values))
    return blended
