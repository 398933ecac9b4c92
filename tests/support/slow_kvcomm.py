"""KVCOMM written out slowly, after the paper, as the reference for the engine.

Everything is recomputed with transformers' own cache, token by token and head by head; nothing is shared with the
engine but the model and the templates. One placeholder sample is shareable if ``min_anchors`` anchors are at least
as long (gamma = 1), pools are unbounded, and the estimator is ``l2_norm``.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import DynamicCache

from kvcomm_core.model import LoadedModel
from kvcomm_core.template import Template

Layers = list[tuple[Tensor, Tensor]]
"""Per layer the keys and values of a segment, ``[H, T, D]``."""


@dataclass
class SlowAnchor:
    ids: tuple[int, ...]
    base: Layers
    offsets: dict[tuple[str, int], tuple[Layers, Layers]] = field(default_factory=dict)


class SlowKVComm:
    def __init__(
        self,
        model: LoadedModel,
        templates: dict[str, Template],
        *,
        header: tuple[int, ...],
        filler: tuple[int, ...],
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

    def request(self, question: tuple[int, ...]) -> list[tuple[str, Tensor, tuple[int, ...]]]:
        """One request through all agents; per turn its mode, first logits and answer."""
        values = {"user_question": question}
        asked = self.prefill(self.header + question)
        bases = {"user_question": self.local(asked, len(self.header), len(self.header) + len(question))}
        drafts: dict[str, SlowAnchor] = {}
        turns = []
        for agent, template in self.templates.items():
            for hole in template.holes:
                pool = self.pools.get(hole, [])
                known = any(anchor.ids == values[hole] for anchor in pool)
                enough = sum(len(anchor.ids) >= len(values[hole]) for anchor in pool) >= self.min_anchors
                if hole not in drafts and not known and not enough:
                    drafts[hole] = SlowAnchor(values[hole], bases[hole])
            prompt = template.fill(values)
            if any(hole in drafts for hole in template.holes):
                mode, kv = "dense", self.prefill(prompt.token_ids[:-1])
                true = self.prefill(prompt.token_ids)
                for index, hole in enumerate(template.holes):
                    span, after = prompt.holes[index], prompt.texts[index + 1]
                    if hole in drafts:
                        drafts[hole].offsets[agent, index] = (
                            subtract(self.local(true, span.start, span.stop), bases[hole]),
                            subtract(self.local(true, after.start, after.stop), self.texts[agent][index + 1]),
                        )
            else:
                mode, kv = "reuse", self.assemble(agent, template, prompt.texts, prompt.holes, values, bases)
            logits, answer, answer_kv = self.decode(kv, prompt.token_ids[-1])
            turns.append((mode, logits, answer))
            values[f"agent_{agent}_current"] = answer
            start = len(prompt.token_ids)
            bases[f"agent_{agent}_current"] = self.local(answer_kv, start, start + len(answer))
        for hole, anchor in drafts.items():
            self.pools.setdefault(hole, []).append(anchor)
        return turns

    def assemble(self, agent, template, texts, holes, values, bases) -> Layers:  # type: ignore[no-untyped-def]
        segments = [(texts[0].start, self.texts[agent][0])]
        for index, hole in enumerate(template.holes):
            anchors, weights = self.weigh(hole, values[hole], bases[hole])
            offsets = [anchor.offsets[agent, index] for anchor in anchors]
            segments.append((holes[index].start, blend(bases[hole], [o[0] for o in offsets], weights)))
            base = self.texts[agent][index + 1]
            segments.append((texts[index + 1].start, blend(base, [o[1] for o in offsets], weights)))
        layers = []
        for layer in range(len(segments[0][1])):
            keys = torch.cat([self.rotate(kv[layer][0], start) for start, kv in segments], dim=1)
            values_HTD = torch.cat([kv[layer][1] for _, kv in segments], dim=1)
            layers.append((keys[:, :-1], values_HTD[:, :-1]))
        return layers

    def weigh(self, hole: str, ids: tuple[int, ...], base: Layers) -> tuple[list[SlowAnchor], list[float]]:
        pool = self.pools[hole]
        repeats = [anchor for anchor in pool if anchor.ids == ids]
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
    def prefill(self, ids: tuple[int, ...]) -> Layers:
        cache = DynamicCache()
        if ids:
            self.model.network(torch.tensor([ids]), past_key_values=cache, use_cache=True)
        return [(layer.keys[0], layer.values[0]) for layer in cache.layers]

    @torch.inference_mode()
    def decode(self, kv: Layers, last_id: int) -> tuple[Tensor, tuple[int, ...], Layers]:
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
        return [(self.rotate(k[:, start:stop], -start), v[:, start:stop]) for k, v in kv]

    def rotate(self, keys_HTD: Tensor, by: int) -> Tensor:
        half = keys_HTD.shape[-1] // 2
        turned = torch.complex(keys_HTD[..., :half].double(), keys_HTD[..., half:].double())
        angles = torch.tensor(self.model.rope.inv_freq, dtype=torch.float64) * by
        turned = turned * torch.polar(torch.ones_like(angles), angles)
        return torch.cat([turned.real, turned.imag], dim=-1).float()


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
