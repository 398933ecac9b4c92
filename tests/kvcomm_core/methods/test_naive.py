"""``naive`` against segments computed one by one, on a model of six layers."""

import pytest
import torch
from slow_cacheblend import assemble, rotate

from kvcomm_core.engine import Engine
from kvcomm_core.methods.naive import Naive
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import Template, TokenIds

HEADER = (3, 4, 5)
FILLER = (9, 9)
PLAIN = Template(((3, 4, 5, 20, 21), (22, 23), (24, 25, 26)), ("user_question", "condition_1_current"))
DENSE_OF_HOLES = Template(((), (), (40,), (44,)), ("condition_1_current", "user_question", "condition_1_current"))


@pytest.mark.parametrize("template", [PLAIN, DENSE_OF_HOLES], ids=["plain", "dense of holes"])
def test_every_segment_stands_at_its_position_and_nothing_is_corrected(llama: LoadedModel, template: Template) -> None:
    """From the first request on, in every layer. Would catch a correction that slips in, a request that is prefilled,
    and exact leading text that counts as estimated."""
    engine = Engine(llama, Naive(llama, HEADER), FILLER)
    engine.register("1", template)
    contents: dict[str, TokenIds] = {"user_question": (50, 51, 52, 53, 54, 55), "condition_1_current": (7, 80, 13)}
    with engine.open() as request:
        for placeholder, ids in contents.items():
            request.provide(placeholder, ids)
        turn = engine.take_turns([request], "1", max_new_tokens=1, keep_kv=[0])[0]
    assert turn.prompt_kv is not None
    pieces = assemble(llama, template, contents, header=HEADER, filler=FILLER)
    for layer, (keys_THD, values_THD) in enumerate(pieces):
        at_THD = rotate(llama, keys_THD, list(range(len(turn.prompt))))
        kept_k, kept_v = (kv[0][layer].transpose(0, 1) for kv in (turn.prompt_kv.keys, turn.prompt_kv.values))
        torch.testing.assert_close(kept_k, at_THD[:-1], rtol=0, atol=1e-4)
        torch.testing.assert_close(kept_v, values_THD[:-1], rtol=0, atol=1e-4)
    supplied, leading = len(turn.prompt) - 1, len(template.texts[0])
    assert (turn.mode, turn.plan.supplied) == ("reuse", supplied)
    reused = turn.plan.reused_text_tokens + turn.plan.reused_placeholder_tokens
    assert reused + turn.computed.base_kv == supplied
    assert (turn.plan.recomputed_tokens, turn.plan.estimated_tokens) == (0.0, supplied - leading)


def test_a_prompt_without_holes_is_exact(llama: LoadedModel) -> None:
    """Would catch a leading text, here the whole prompt, that counts as estimated."""
    engine = Engine(llama, Naive(llama, HEADER), FILLER)
    engine.register("1", Template(((40, 41, 42),), ()))
    with engine.open() as request:
        turn = request.take_turn("1", max_new_tokens=1)
    with torch.inference_mode():
        dense_V = llama.network(torch.tensor([(40, 41, 42)])).logits[0, -1]
    torch.testing.assert_close(turn.first_logits_V, dense_V, rtol=0, atol=1e-4)
    assert (turn.plan.reused_text_tokens, turn.plan.estimated_tokens) == (2, 0)
