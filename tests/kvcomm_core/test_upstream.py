"""The estimator ``upstream`` through the whole method, against the public code's weighting written out in loops.

The reference follows that code: one set of weights for keys and one for values, and no offset at layer 0. It compares
keys at local positions, as we do.
"""

import random

import pytest
import torch
from slow_kvcomm import Ids, Layers, SlowAnchor, SlowKVComm
from tiny_models import VOCABULARY, tiny_model

from kvcomm_core.blending import Term, place
from kvcomm_core.config import KVCommConfig
from kvcomm_core.criteria import measure_distances
from kvcomm_core.engine import Engine
from kvcomm_core.estimators import weigh
from kvcomm_core.kv import KV
from kvcomm_core.methods.kvcomm import KVComm
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.packed import pack
from kvcomm_core.pools.anchors import Anchor
from kvcomm_core.rope import Rope
from kvcomm_core.template import Span, Template

HEADER, FILLER, MAX_NEW_TOKENS = (3, 4, 5), (9, 9), 3
TEMPLATES = {
    "1": Template(((3, 4, 5, 20, 21), (22, 23)), ("user_question",)),
    "2": Template(((3, 4, 5, 30), (), (31, 32, 33)), ("user_question", "agent_1_current")),
    "3": Template(((40,), (41, 42), (43, 44)), ("agent_2_current", "user_question")),
}


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return tiny_model(layers=6)


class SlowUpstream(SlowKVComm):
    """KVCOMM with the public code's weights."""

    def assemble(self, name: str, texts: list[Span], holes: list[Span], samples: list[tuple]) -> Layers:  # type: ignore[type-arg]
        segments = [(texts[0].start, self.texts[name][0])]
        for index, (hole, _, ids, base) in enumerate(samples):
            anchors, _ = self.weigh(hole, ids, base, (name, index))
            text_base = self.texts[name][index + 1]
            placeholder: Layers = []
            text: Layers = []
            for layer in range(len(base)):
                parts, text_parts = [], []
                for part in (0, 1):  # keys, then values
                    x_HTD, text_HTD = base[layer][part], text_base[layer][part]
                    if layer:
                        w_AT = token_weights(base, anchors, part)
                        w_AHD = channel_weights(base, anchors, part, layer)
                        for number, anchor in enumerate(anchors):
                            offset, text_offset = anchor.offsets[name, index]
                            x_HTD = x_HTD + w_AT[number][None, :, None] * offset[layer][part][:, : len(ids)]
                            text_HTD = text_HTD + w_AHD[number][:, None] * text_offset[layer][part]
                    parts.append(x_HTD)
                    text_parts.append(text_HTD)
                placeholder.append((parts[0], parts[1]))
                text.append((text_parts[0], text_parts[1]))
            segments += [(holes[index].start, placeholder), (texts[index + 1].start, text)]
        assembled = []
        for layer in range(len(segments[0][1])):
            keys = torch.cat([self.rotate(kv[layer][0], start, layer) for start, kv in segments], dim=1)
            values = torch.cat([kv[layer][1] for _, kv in segments], dim=1)
            assembled.append((keys[:, :-1], values[:, :-1]))
        return assembled


def token_weights(base: Layers, anchors: list[SlowAnchor], part: int) -> torch.Tensor:
    """Weights of the placeholder, ``[A, T]``."""
    tokens = base[0][part].shape[1]
    distances_AT = torch.zeros(len(anchors), tokens, dtype=torch.float64)
    for number, anchor in enumerate(anchors):
        for token in range(tokens):
            differences = [
                (kv[part][:, token].double() - other[part][:, token].double()).abs().flatten()
                for kv, other in zip(base, anchor.base, strict=True)
            ]
            distances_AT[number, token] = torch.cat(differences).mean()
    return torch.softmax(-distances_AT, dim=0).float()


def channel_weights(base: Layers, anchors: list[SlowAnchor], part: int, layer: int) -> torch.Tensor:
    """Weights of the text in one layer, ``[A, H, D]``: the sample and the end of the anchor, token by token."""
    heads, tokens, channels = base[layer][part].shape
    distances_AHD = torch.zeros(len(anchors), heads, channels, dtype=torch.float64)
    for number, anchor in enumerate(anchors):
        theirs = anchor.base[layer][part]
        start = theirs.shape[1] - tokens
        for head in range(heads):
            for channel in range(channels):
                total = 0.0
                for token in range(tokens):
                    x, y = base[layer][part][head, token, channel], theirs[head, start + token, channel]
                    total += (float(x) - float(y)) ** 2
                distances_AHD[number, head, channel] = total**0.5
    return torch.softmax(-distances_AHD, dim=0).float()


def random_layers(tokens: int, seed: int) -> Layers:
    """KV of six layers with two heads of size 4. Keys lie further apart than values, as in real models."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (2.0 * torch.randn(2, tokens, 4, generator=generator), 0.7 * torch.randn(2, tokens, 4, generator=generator))
        for _ in range(6)
    ]


def stacked(layers: Layers) -> KV:
    """The same KV in two layer groups, of four and two layers."""
    keys, values = (torch.stack([kv[part] for kv in layers]) for part in (0, 1))
    return KV((keys[:4], keys[4:]), (values[:4], values[4:]))


def test_estimated_kv_equals_the_public_codes_formula_in_loops() -> None:
    """Keys and values apart, placeholder and text apart. Would catch keys weighted by values, by a few per cent."""
    base, text = random_layers(4, 0), random_layers(3, 1)
    anchors = []
    for seed, tokens in ((2, 4), (3, 6), (4, 5)):
        anchor = SlowAnchor((), random_layers(tokens, seed))
        anchor.offsets["1", 0] = random_layers(tokens, seed + 10), random_layers(3, seed + 20)
        anchors.append(anchor)
    config = KVCommConfig(estimator="upstream")
    held = [Anchor.of((), stacked(anchor.base), {}, config) for anchor in anchors]
    distances = measure_distances(stacked(base).values, [anchor.base_values for anchor in held])
    weights = weigh(stacked(base), held, distances, config)
    rope = Rope(inv_freq=((1.0, 0.1),))
    for index, (kv, of_anchors) in enumerate(((base, weights.placeholder), (text, weights.text))):
        offsets = [anchor.offsets["1", 0][index] for anchor in anchors]
        terms = [Term(pack(stacked(o)), w) for o, w in zip(offsets, of_anchors, strict=True)]
        room = stacked(random_layers(len(stacked(kv)), 99))
        place(stacked(kv), terms, room, rope, 0)
        for part, name in enumerate(("keys", "values")):
            estimated = torch.cat(getattr(room, name))
            for layer in range(6):
                if index == 0:
                    w_A = token_weights(base, anchors, part)[:, None, :, None]
                else:
                    w_A = channel_weights(base, anchors, part, layer)[:, :, None]
                expected = kv[layer][part]
                for w, offset in zip(w_A, offsets, strict=True):
                    expected = expected + w * offset[layer][part][:, : expected.shape[1]]
                torch.testing.assert_close(estimated[layer], expected, rtol=1e-5, atol=1e-5)


def tokens_of(length: int, seed: int) -> Ids:
    generator = random.Random(seed)
    return tuple(generator.randrange(VOCABULARY) for _ in range(length))


def test_the_whole_method_equals_the_public_codes_weights_in_loops(model: LoadedModel) -> None:
    """Five requests of three agents. Would catch keys weighted by values or in another frame than they are stored,
    anchors without base keys, weights of the placeholder on the text, and the layers of one group on another's."""
    config = KVCommConfig(gamma=1.0, estimator="upstream")
    method = KVComm(model, HEADER, config)
    engine = Engine(model, method, FILLER)
    slow = SlowUpstream(
        model,
        TEMPLATES,
        header=HEADER,
        filler=FILLER,
        blend_temperature=config.blend_temperature,
        min_anchors=config.min_anchors,
        max_new_tokens=MAX_NEW_TOKENS,
    )
    for name, template in TEMPLATES.items():
        engine.register(name, template)
    reused = 0
    for seed, length in enumerate([9, 7, 8, 6, 5]):
        question = tokens_of(length, seed)
        with engine.open() as request:
            request.provide("user_question", question)
            turns = [request.take_turn(name, max_new_tokens=MAX_NEW_TOKENS) for name in TEMPLATES]
        for turn, (mode, logits, answer) in zip(turns, slow.request(question), strict=True):
            assert (turn.mode, turn.answer_ids) == (mode, answer)
            torch.testing.assert_close(turn.first_logits_V, logits, rtol=1e-5, atol=5e-5)
            reused += mode == "reuse"
    assert reused >= 6, "the comparison must meet reuse"
