"""Every family that the engine serves, against the same method written out slowly and against transformers alone.

The models have six layers, since an error of one layer may hide where few layers follow. A family's own part (windows,
layers without rotation, caps, factors, experts) is switched on, and windows are shorter than every prompt.
"""

from functools import cache
from typing import Any

import pytest
import torch
from slow_kvcomm import SlowKVComm
from three_agents import FILLER, HEADER, MAX_NEW_TOKENS, TEMPLATES, ask, engine_of, tokens
from tiny_families import LAYERS, VARIANTS, WINDOW, tiny_config, tiny_family
from transformers import DynamicCache

from kvcomm_core.config import KVCommConfig
from kvcomm_core.decode import advance
from kvcomm_core.kv import KVBuffer
from kvcomm_core.methods.dense import Dense
from kvcomm_core.methods.kvcomm import KVComm
from kvcomm_core.models.families import FAMILIES, REFUSED
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.models.model_config import ModelError, check_config
from kvcomm_core.recompute import recompute
from kvcomm_core.selection.query_attention import attention_norms

QUICK = {
    ("llama", "with biases"),
    ("mistral", "with a window"),
    ("qwen3_moe", "plain"),
    ("phi3", "partial"),
    ("gemma3_text", "plain"),
    ("gpt_oss", "plain"),
    ("granite", "plain"),
    ("cohere2", "plain"),
    ("glm4", "plain"),
}
"""Variants that differ most; the others are tested where there is more time."""
ALL = [
    pytest.param(
        family, variant, marks=[] if (family, variant) in QUICK else pytest.mark.slow, id=f"{family} {variant}"
    )
    for family, variants in VARIANTS.items()
    for variant in variants
]
ROPES = [
    pytest.param(family, rope, marks=[] if family in ("llama", "phi3") else pytest.mark.slow)
    for family in VARIANTS
    for rope in FAMILIES[family].ropes
]
QUESTIONS = [tokens(length, seed) for seed, length in enumerate([8, 12, 12, 6, 7, 9, 0, 0, 11])]

ANSWER = 2 * WINDOW

model_of = cache(tiny_family)
"""Each model once; no test changes it."""


@pytest.mark.parametrize(("family", "variant"), ALL)
def test_kvcomm_equals_the_method_written_out_slowly(family: str, variant: str) -> None:
    """Nine requests through three agents. Would catch a wrong position, frame, mask or factor of any family."""
    model, config = model_of(family, variant), KVCommConfig(gamma=1.0, blend_temperature=0.3)
    engine = engine_of(model, KVComm(model, HEADER, config))
    slow = SlowKVComm(
        model,
        TEMPLATES,
        header=HEADER,
        filler=FILLER,
        blend_temperature=config.blend_temperature,
        min_anchors=config.min_anchors,
        max_new_tokens=MAX_NEW_TOKENS,
    )
    modes = []
    for question in QUESTIONS:
        for turn, (mode, logits, answer) in zip(ask(engine, question), slow.request(question), strict=True):
            assert turn.mode == mode
            torch.testing.assert_close(turn.first_logits_V, logits, rtol=0, atol=1e-3)
            assert turn.answer_ids == answer
            modes.append(mode)
    assert modes.count("reuse") >= 12, "the comparison must meet reuse"


def assert_moves(model: LoadedModel, by: int) -> None:
    """Keys moved by the engine are those that the network computes at the other positions, in every layer."""
    ids, here = torch.arange(1, 13)[None], torch.arange(12)[None]
    layers = []
    for positions in (here, here + by):
        cache = DynamicCache()
        with torch.inference_mode():
            model.network(ids, position_ids=positions, past_key_values=cache, use_cache=True)
        layers.append(cache.layers)
    for index, (near, far) in enumerate(zip(*layers, strict=True)):
        moved = model.rope.move(near.keys, by, first_layer=index)
        torch.testing.assert_close(moved, far.keys, rtol=0, atol=1e-4)
        torch.testing.assert_close(near.values, far.values, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("family", "variant"), ALL)
def test_moved_keys_equal_a_fresh_prefill_there(family: str, variant: str) -> None:
    """Would catch wrong pairs, a part of the head too many, a layer that does not rotate, and a norm that comes after
    the rotation, which no rotation can move."""
    assert_moves(model_of(family, variant), 37)


@pytest.mark.parametrize(("family", "rope"), ROPES)
def test_moved_keys_equal_a_fresh_prefill_there_with_each_rope_type(family: str, rope: str) -> None:
    """Would catch a RoPE type that a family computes in its own way."""
    assert_moves(model_of(family, "plain", rope), 37)


@pytest.mark.parametrize(("family", "variant"), ALL)
def test_dense_turns_equal_what_transformers_generates(family: str, variant: str) -> None:
    """First logits and answers. Would catch a factor or cap of the logits that the engine leaves out, which no
    comparison of answers alone would show."""
    model = model_of(family, variant)
    for turn in ask(engine_of(model, Dense()), QUESTIONS[0]):
        ids = torch.tensor([turn.prompt.token_ids])
        with torch.inference_mode():
            logits_V = model.network(ids).logits[0, -1]
        torch.testing.assert_close(turn.first_logits_V, logits_V, rtol=0, atol=1e-4)
        generated = model.network.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=MAX_NEW_TOKENS, do_sample=False, pad_token_id=0
        )
        assert tuple(generated[0, ids.shape[1] :].tolist()) == turn.answer_ids


@pytest.mark.slow
@pytest.mark.parametrize(("family", "variant"), ALL)
def test_a_batch_gives_what_single_requests_give(family: str, variant: str) -> None:
    """Rows of different lengths, dense beside reuse, and answers longer than a window. Would catch a window counted in
    slots of the buffer, where rows have gaps, instead of positions."""
    model = model_of(family, variant)
    alone, together = (engine_of(model, KVComm(model, HEADER, KVCommConfig(gamma=1.0))) for _ in range(2))
    for engine in (alone, together):
        for question in QUESTIONS[:3]:
            ask(engine, question)
    asked = [tokens(length, 100 + length) for length in (3, 20, 8, 0, 12)]
    expected = []
    for question in asked:
        request = alone.open()
        request.provide("user_question", question)
        expected.append([request.take_turn(agent, max_new_tokens=ANSWER) for agent in TEMPLATES])
    with together.open_batch(len(asked)) as requests:
        for request, question in zip(requests, asked, strict=True):
            request.provide("user_question", question)
        by_agent = [together.take_turns(requests, agent, max_new_tokens=ANSWER) for agent in TEMPLATES]
    for index, turns in enumerate(expected):
        for turn, of_batch in zip(turns, (turns[index] for turns in by_agent), strict=True):
            assert of_batch.mode == turn.mode
            assert of_batch.answer_ids == turn.answer_ids
            torch.testing.assert_close(of_batch.first_logits_V, turn.first_logits_V, rtol=0, atol=1e-3)
    assert {turn.mode for turns in by_agent for turn in turns} == {"dense", "reuse"}


@pytest.mark.parametrize(("family", "variant"), ALL)
def test_recomputing_tokens_equals_dense_prefill(family: str, variant: str) -> None:
    """All of them over noise, then five that were damaged. Would catch a factor of the embeddings left out, and the
    mask or rotation of another layer type."""
    model, ids = model_of(family, variant), tuple(range(1, 31))
    dense, row = (KVBuffer(model.layout, rows=1, capacity=len(ids)) for _ in range(2))
    advance(model, [ids], dense)
    every_T = torch.arange(len(ids))
    for positions_T in (every_T, torch.tensor([8, 9, 10, 21, 29])):
        for keys, values in row.layers:
            keys[:, :, positions_T] += 3.0
            values[:, :, positions_T] -= 3.0
        recompute(model, ids, row, positions_T)
        for one, other in zip(row.layers, dense.layers, strict=True):
            for tensor, reference in zip(one, other, strict=True):
                torch.testing.assert_close(tensor, reference, rtol=0, atol=1e-4)


def test_layers_that_differ_may_be_placed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch the rotation of the first layers in every block of layers."""
    runs = []
    for block in (1 << 19, 1):
        monkeypatch.setattr("kvcomm_core.blending._BLOCK_BYTES", block)
        model = model_of("cohere2", "plain")
        engine = engine_of(model, KVComm(model, HEADER, KVCommConfig(gamma=1.0)))
        runs.append([turn for question in QUESTIONS[:5] for turn in ask(engine, question)])
    assert [turn.mode for turn in runs[0]].count("reuse") > 3
    for turn, other in zip(*runs, strict=True):
        torch.testing.assert_close(turn.first_logits_V, other.first_logits_V, rtol=0, atol=1e-5)


def test_the_attention_of_the_last_text_is_what_the_network_pays() -> None:
    """With sinks and windows. Would catch a mask made twice for a model that runs with plain attention."""
    model, ids, supplied = model_of("gpt_oss", "plain"), tuple(range(1, 21)), 14
    row = KVBuffer(model.layout, rows=1, capacity=len(ids))
    advance(model, [ids], row)
    with torch.inference_mode():
        layers = model.network(torch.tensor([ids]), output_attentions=True).attentions[-2:]
    norms = [weights[0, :, supplied:, :supplied].mean(dim=0).norm(dim=0) for weights in layers]
    found = attention_norms(model, ids, row, supplied)
    torch.testing.assert_close(found, torch.stack(norms).mean(dim=0), rtol=0, atol=1e-5)


def test_every_family_has_a_model_here() -> None:
    """Would catch a family that is allowed without a test."""
    assert list(VARIANTS) == list(FAMILIES)
    assert not REFUSED.keys() & FAMILIES.keys()


@pytest.mark.parametrize(("family", "rope", "context"), [("phi3", "longrope", 128), ("llama", "dynamic", 256)])
def test_prompts_end_where_frequencies_change(family: str, rope: str, context: int) -> None:
    """Would catch keys of two sets of frequencies in one prompt."""
    model = tiny_family(family, "plain", rope)
    inv_freq = torch.tensor(model.rope.inv_freq[0])
    for tokens_in_all, changes in ((context, False), (context + 1, True)):
        with torch.inference_mode():
            model.network(torch.zeros((1, tokens_in_all), dtype=torch.long))
        now = model.network.model.rotary_emb.inv_freq
        assert torch.equal(now, inv_freq) is not changes
    model.require_context(context)
    with pytest.raises(ValueError, match=f"allowed: the model's context of {context}"):
        model.require_context(context + 1)


@pytest.mark.parametrize("family", ["hunyuan_v1_dense"])
def test_a_norm_after_the_rotation_cannot_be_moved(family: str) -> None:
    """Why such models are refused. Would catch a table that refuses what works."""
    from transformers import AutoConfig, AutoModelForCausalLM

    fields: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 16}
    config = AutoConfig.for_model(family, vocab_size=97, intermediate_size=96, num_key_value_heads=2, **fields)
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config)
    norm = network.model.layers[0].self_attn.key_layernorm.weight
    with torch.inference_mode():
        norm += 0.3 * torch.randn(norm.shape)
        here, there = (
            network(torch.tensor([[1, 2, 3]]), position_ids=torch.arange(3)[None] + by).past_key_values.layers[0].keys
            for by in (0, 5)
        )
    # A rotation would leave the length of each pair as it is.
    lengths = [torch.complex(keys[..., :8], keys[..., 8:]).abs() for keys in (here, there)]
    assert (lengths[0] - lengths[1]).abs().max() > 0.01
    with pytest.raises(ModelError, match="scales each channel of a key after rotating it"):
        check_config("m", {"model_type": family})


def test_tiny_models_have_what_sets_their_family_apart() -> None:
    """Would catch a variant whose windows or unrotated layers are not there, so that its tests test nothing."""
    assert set(model_of("gemma3_text", "plain").layer_types) == {"full_attention", "sliding_attention"}
    assert len(model_of("gemma3_text", "plain").rope.inv_freq) == LAYERS
    assert (0.0,) * 8 in model_of("smollm3", "plain").rope.inv_freq
    assert (0.0,) * 8 in model_of("cohere2", "plain").rope.inv_freq
    assert len(model_of("phi3", "partial").rope.inv_freq[0]) == 6
    assert model_of("granite", "plain").scales.embedding == 3.0
    assert tiny_config("gemma2").attn_logit_softcapping == 3.0
