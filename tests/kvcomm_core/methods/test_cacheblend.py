"""CacheBlend against the authors' algorithm written out slowly, on models of six layers."""

from typing import get_args

import pytest
import torch
from slow_cacheblend import Blended, assemble, blend, unrotated
from tiny_models import tiny_model

from kvcomm_core.config import DeviatingPart
from kvcomm_core.engine import Engine
from kvcomm_core.methods.baseline_config import CacheBlendConfig
from kvcomm_core.methods.cacheblend import CacheBlend
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import Template, TokenIds
from kvcomm_core.turn import Turn

HEADER = (3, 4, 5)
FILLER = (9, 9)
# 6 tokens of leading text, 36 before the suffix, and 5 in it: a tenth or a fifth of 36, of 41, and of the 30 without
# the leading text are different numbers of tokens. The other prompt has no leading text and a suffix of one token.
PLAIN = Template(
    ((3, 4, 5, 20, 21, 22), (23, 24, 25, 26), (27, 28, 29, 30, 31)), ("user_question", "condition_1_current")
)
DENSE_OF_HOLES = Template(((), (), (40,), (44,)), ("condition_1_current", "user_question", "condition_1_current"))
CONTENTS: dict[str, TokenIds] = {
    "user_question": tuple(range(50, 66)),
    "condition_1_current": (7, 80, 13, 61, 33, 2, 90, 41, 16, 75),
}


def engine_of(model: LoadedModel, template: Template, ratio: float, select: DeviatingPart = "values") -> Engine:
    engine = Engine(model, CacheBlend(model, HEADER, CacheBlendConfig(ratio=ratio, select=select)), FILLER)
    engine.register("1", template)
    return engine


def take_turn(engine: Engine, contents: dict[str, TokenIds] = CONTENTS) -> Turn:
    with engine.open() as request:
        for placeholder, ids in contents.items():
            request.provide(placeholder, ids)
        return engine.take_turns([request], "1", max_new_tokens=1, keep_kv=[0])[0]


def slowly(model: LoadedModel, template: Template, ratio: float, part: DeviatingPart) -> Blended:
    old = assemble(model, template, CONTENTS, header=HEADER, filler=FILLER)
    ids = template.fill(CONTENTS).token_ids
    return blend(model, ids, old, suffix=len(template.texts[-1]), ratio=ratio, part=part)


def assert_equal(turn: Turn, expected: Blended) -> None:
    torch.testing.assert_close(turn.first_logits_V, expected.logits_V, rtol=0, atol=1e-4)
    assert turn.prompt_kv is not None
    (keys_LHTD,), (values_LHTD,) = turn.prompt_kv.keys, turn.prompt_kv.values
    for layer, (keys_THD, values_THD) in enumerate(expected.kv):
        torch.testing.assert_close(keys_LHTD[layer].transpose(0, 1), keys_THD[:-1], rtol=0, atol=1e-4)
        torch.testing.assert_close(values_LHTD[layer].transpose(0, 1), values_THD[:-1], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("ratio", "select", "model_type"),
    [
        *((ratio, select, "llama") for ratio in (0.1, 0.2) for select in ("values", "keys")),
        (0.0, "values", "llama"),
        (1.0, "values", "llama"),
        (0.2, "keys", "qwen3"),  # which normalises keys
    ],
)
def test_cacheblend_equals_the_authors_algorithm_written_out_slowly(
    ratio: float, select: DeviatingPart, model_type: str
) -> None:
    """Every layer's KV and the logits. Would catch tokens that stop behind layer 1, a selection by anything but the
    part that was asked for, a reused suffix, and a number of tokens that counts the suffix or leaves the leading text
    out."""
    model = tiny_model(model_type, layers=6)
    for template in (PLAIN, DENSE_OF_HOLES):
        assert_equal(take_turn(engine_of(model, template, ratio, select)), slowly(model, template, ratio, select))


def test_the_two_selections_choose_different_tokens(llama: LoadedModel) -> None:
    """Would catch a comparison above that any selection passes."""
    values, keys = (slowly(llama, PLAIN, 0.2, part).chosen for part in get_args(DeviatingPart))
    assert len(values) == len(keys) == 7 + 5
    assert values != keys


def test_at_ratio_1_cacheblend_equals_dense(llama: LoadedModel) -> None:
    """Would catch leading text that is left out but not exact, and KV that is recomputed but not used."""
    for template in (PLAIN, DENSE_OF_HOLES):
        turn = take_turn(engine_of(llama, template, 1.0))
        with torch.inference_mode():
            dense_V = llama.network(torch.tensor([turn.prompt.token_ids])).logits[0, -1]
        torch.testing.assert_close(turn.first_logits_V, dense_V, rtol=0, atol=1e-4)


@pytest.mark.parametrize("ratio", [0.0, 0.2])
def test_the_suffix_is_never_reused(llama: LoadedModel, ratio: float) -> None:
    """Its base KV is destroyed, and nothing changes. Would catch a suffix that is reused, or seen before it is
    recomputed."""
    intact, broken = engine_of(llama, PLAIN, ratio), engine_of(llama, PLAIN, ratio)
    assert isinstance(broken.method, CacheBlend)
    suffix = broken.method.segments.texts["1"][-1].kv
    with torch.inference_mode():
        for tensor in (*suffix.keys, *suffix.values):
            tensor.fill_(float("nan"))
    expected_V = take_turn(intact).first_logits_V
    torch.testing.assert_close(take_turn(broken).first_logits_V, expected_V, rtol=0, atol=0)


@pytest.mark.parametrize(("ratio", "chosen"), [(0.0, 0), (0.1, 3), (0.2, 7), (1.0, 30)])
def test_the_account_of_a_turn(llama: LoadedModel, ratio: float, chosen: int) -> None:
    """Of 41 tokens, 6 are exact leading text, 26 in holes, 4 in the text between and 5 in the suffix. Would catch a
    number of tokens that counts the suffix or only what may be chosen, two layers that cost nothing, and tokens that
    are both reused and recomputed, or both reused and prefilled alone."""
    turn = take_turn(engine_of(llama, PLAIN, ratio))
    plan = turn.plan
    assert (plan.mode, plan.supplied, len(turn.prompt)) == ("partial", 36, 41)
    only_two_layers = 30 - chosen if chosen else 0
    assert plan.recomputed_tokens == pytest.approx(chosen + only_two_layers * 2 / 6)
    assert plan.estimated_tokens == 30 - chosen
    if ratio in (0.0, 0.2):
        positions = slowly(llama, PLAIN, ratio, "values").chosen[:-5]
        in_holes = sum(6 <= position < 22 or 26 <= position < 36 for position in positions)
        assert plan.reused_text_tokens == 36 - chosen - (26 - in_holes)
    assert plan.reused_placeholder_tokens == 0  # the turn made the base KV of all holes itself
    assert turn.computed.base_kv == 26


def test_prompts_without_anything_to_reuse_or_to_recompute(llama: LoadedModel) -> None:
    """Empty contents leave nothing, or exact text alone, before the suffix. Would catch a pass over no tokens, and
    leading text that counts as estimated."""
    empty: dict[str, TokenIds] = {"user_question": ()}
    for template, contents, mode, supplied in (
        (Template(((), (44, 45)), ("user_question",)), empty, "dense", 0),
        (Template(((40, 41), (44, 45)), ("user_question",)), empty, "partial", 2),
        (Template(((40, 41, 42),), ()), {}, "partial", 2),
        (Template(((40,),), ()), {}, "dense", 0),
    ):
        turn = take_turn(engine_of(llama, template, 1.0), contents)
        assert (turn.mode, turn.plan.supplied) == (mode, supplied)
        assert (turn.plan.recomputed_tokens, turn.plan.estimated_tokens) == (0.0, 0)
        assert turn.plan.reused_text_tokens == supplied
        with torch.inference_mode():
            dense_V = llama.network(torch.tensor([turn.prompt.token_ids])).logits[0, -1]
        torch.testing.assert_close(turn.first_logits_V, dense_V, rtol=0, atol=1e-4)


def test_a_batch_gives_what_single_turns_give(llama: LoadedModel) -> None:
    """Rows whose suffixes begin at different tokens. Would catch suffixes that run at another row's positions, and
    selections that mix rows."""
    samples = [{**CONTENTS, "user_question": tuple(range(50, 50 + length))} for length in (9, 0, 16, 9, 4)]
    for template in (PLAIN, DENSE_OF_HOLES):
        engine = engine_of(llama, template, 0.2)
        with engine.open_batch(len(samples)) as requests:
            for request, contents in zip(requests, samples, strict=True):
                for placeholder, ids in contents.items():
                    request.provide(placeholder, ids)
            turns = engine.take_turns(requests, "1", max_new_tokens=3)
        for turn, contents in zip(turns, samples, strict=True):
            alone = take_turn(engine_of(llama, template, 0.2), contents)
            torch.testing.assert_close(turn.first_logits_V, alone.first_logits_V, rtol=0, atol=1e-4)
            assert turn.plan == alone.plan


def test_the_slow_prefill_equals_the_model(llama: LoadedModel) -> None:
    """Would catch a reference that errs in the same way as the engine."""
    ids = PLAIN.fill(CONTENTS).token_ids
    whole = blend(llama, ids, unrotated(llama, ids), suffix=1, ratio=0.0, part="values")
    with torch.inference_mode():
        logits = llama.network(torch.tensor([ids])).logits[0, -1]
    torch.testing.assert_close(whole.logits_V, logits, rtol=0, atol=1e-4)
