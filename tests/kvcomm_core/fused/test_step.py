"""The step of one token per row, against transformers' own layers, in every family that has one."""

from dataclasses import replace

import pytest
import torch
from tiny_families import VARIANTS, tiny_family, tiny_network
from tiny_models import VOCABULARY

from kvcomm_core.decode import advance, advance_one, advance_rows, decode_greedily, to_logits
from kvcomm_core.fused.layers import FAMILIES
from kvcomm_core.kv import KVBuffer
from kvcomm_core.models.families import FAMILIES as SERVED
from kvcomm_core.models.loading import LoadedModel, wrap_model

CASES = [(family, variant) for family in FAMILIES for variant in VARIANTS[family]]
PROMPTS = ((5, 11, 2, 60, 33, 8, 91, 17), (44, 3, 9), (7, 7, 80, 12, 1))
NEW = 24
"""New tokens, far beyond the windows of models that have some."""


def slow_row(model: LoadedModel, ids: tuple[int, ...]) -> torch.Tensor:
    """Next-token logits of one row, all of it run anew by transformers' own model."""
    with torch.inference_mode():
        return model.network(torch.tensor([ids])).logits[0, -1].float()


@pytest.mark.parametrize(("family", "variant"), CASES)
def test_the_step_decodes_what_transformers_decodes(family: str, variant: str) -> None:
    """Catches any error in a formula of the step: a bias, a norm, a window, a factor, a layer that does not rotate."""
    model = tiny_family(family, variant)
    assert model.decoding == "fused"
    found = []
    for each in (model, replace(model, step=None)):
        buffer = KVBuffer(model.layout, rows=1, capacity=len(PROMPTS[0]) + NEW)
        first = to_logits(each, advance(each, [PROMPTS[0]], buffer)).argmax(dim=-1).tolist()
        [answer] = decode_greedily(
            each, first, buffer, positions=[len(PROMPTS[0])], visible_BC=None, max_new_tokens=NEW, eos_ids=()
        )
        found.append((answer, [tensor.clone() for tensor in buffer.view(0, buffer.length).tensors]))
    (answer, kv), (expected, expected_kv) = found
    assert answer == expected
    for tensor, expected_tensor in zip(kv, expected_kv, strict=True):
        torch.testing.assert_close(tensor, expected_tensor, rtol=1e-3, atol=1e-3)
    logits_V = slow_row(model, (*PROMPTS[0], *answer.token_ids[:-1]))
    assert int(logits_V.argmax()) == answer.token_ids[-1]


@pytest.mark.parametrize("way", ["one pass", "too many tokens", "no step"])
@pytest.mark.parametrize(("family", "variant"), CASES)
def test_rows_of_several_tokens_run_beside_rows_of_one(
    family: str, variant: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts that begin, one that follows reused tokens, and rows that decode. Catches a token that attends to a
    later one, to another row or beyond its window, the last token of another row, and KV at the wrong slot."""
    model = tiny_family(family, variant)
    if way == "too many tokens":
        monkeypatch.setattr("kvcomm_core.decode._MOST_TOGETHER", 8)
    model = replace(model, step=None) if way == "no step" else model
    long = tuple(range(3, 25))
    held = (PROMPTS[0], (), long[:5], PROMPTS[1], ())
    rows = ((6,), long, long[5:], (9,), PROMPTS[2])
    buffer = KVBuffer(model.layout, rows=len(rows), capacity=40)
    for index, ids in enumerate(held):
        if ids:
            advance(model, [ids], buffer.row(index))
    hidden_BE = advance_rows(model, rows, buffer, starts=[len(ids) for ids in held])
    for index, (before, ids) in enumerate(zip(held, rows, strict=True)):
        alone = KVBuffer(model.layout, rows=1, capacity=40)
        torch.testing.assert_close(hidden_BE[index], advance(model, [(*before, *ids)], alone)[0], rtol=1e-3, atol=1e-3)
        stop = len(before) + len(ids)
        pairs = zip(buffer.view(0, stop, index).tensors, alone.view(0, stop).tensors, strict=True)
        for tensor, expected in pairs:
            torch.testing.assert_close(tensor, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("family", "variant"), [("llama", "plain"), ("qwen3", "with windows"), ("smollm3", "plain")])
def test_rows_of_any_length_advance_side_by_side(family: str, variant: str, fused: bool) -> None:
    """Catches a row that reads another's slots, a position counted by slot, KV written to the wrong row, and a window
    that counts slots: each row must give what it gives alone."""
    model = tiny_family(family, variant)
    model = model if fused else replace(model, step=None)
    buffer = KVBuffer(model.layout, rows=len(PROMPTS), capacity=32)
    rows = [list(prompt) for prompt in PROMPTS]
    for index, prompt in enumerate(PROMPTS):
        advance(model, [prompt], buffer.row(index))
    for token in range(10):
        ids = [(7 * token + 31 * index) % VOCABULARY for index in range(len(rows))]
        slots = [len(row) for row in rows]
        for row, each in zip(rows, ids, strict=True):
            row.append(each)
        logits_BV = to_logits(model, advance_one(model, ids, buffer, slots=slots, positions=slots))
        for row, logits_V in zip(rows, logits_BV, strict=True):
            torch.testing.assert_close(logits_V, slow_row(model, tuple(row)), rtol=1e-3, atol=1e-3)


def test_a_model_that_is_not_known_exactly_is_not_fused() -> None:
    """Catches a step for layers whose arithmetic it does not know. Each reason is told."""

    class Changed(torch.nn.Linear):
        pass

    assert all(tiny_family(family).step is None for family in SERVED if family not in FAMILIES)
    network = tiny_network("llama")
    network.model.layers[2].mlp.up_proj.__class__ = Changed
    assert wrap_model("changed", network, None).decoding == "transformers: a matrix is Changed"
    network = tiny_network("llama")
    network.model.layers[5].self_attn.scaling *= 1.5  # fused and transformers both read it
    assert wrap_model("scaled", network, None).decoding == "fused"
    network = tiny_network("granite")
    network.model.layers[3].residual_multiplier = 0.25
    type_of_layer = type(network.model.layers[3])
    forward = type_of_layer.forward
    try:
        type_of_layer.forward = lambda self, h, **more: forward(self, h * 1.02, **more)
        assert "differs from transformers" in wrap_model("other forward", network, None).decoding
    finally:
        type_of_layer.forward = forward
    assert tiny_family("llama", dtype=torch.bfloat16).step is None


def test_hooks_see_every_token(llama: LoadedModel) -> None:
    """Catches a step that passes by those who watch a module, who would count too few tokens."""
    seen: list[int] = []
    handle = llama.network.model.layers[1].register_forward_pre_hook(lambda _module, _args: seen.append(1))
    buffer = KVBuffer(llama.layout, rows=1, capacity=8)
    advance(llama, [(1, 2, 3)], buffer)
    advance(llama, [(4,)], buffer)
    handle.remove()
    advance(llama, [(5,)], buffer)
    assert len(seen) == 2
