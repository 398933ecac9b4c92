"""EPIC against its rule written out slowly, on models of six layers."""

import pytest
import torch
from slow_cacheblend import assemble, rerun
from tiny_models import tiny_model

from kvcomm_core.engine import Engine
from kvcomm_core.methods.baseline_config import EpicConfig
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import Template, TokenIds
from kvcomm_core.turn import Turn

HEADER = (3, 4, 5)
FILLER = (9, 9)
# 3 tokens of leading text, a question of 6, a text of 2, a result of 4 and a suffix of 3.
TEMPLATE = Template(((3, 4, 5), (23, 24), (27, 28, 29)), ("user_question", "condition_1_current"))
CONTENTS: dict[str, TokenIds] = {"user_question": (50, 51, 52, 53, 54, 55), "condition_1_current": (7, 80, 13, 61)}
SUFFIX = [15, 16, 17]
FIRST_OF_SEGMENTS = {
    0: [],
    1: [3, 9, 11],
    3: [3, 4, 5, 9, 10, 11, 12, 13],
    99: list(range(3, 15)),
}
"""By ``first``: the positions that are recomputed before the suffix."""


def take_turn(model: LoadedModel, first: int) -> Turn:
    engine = Engine(model, EpicConfig(first=first).build(model, HEADER), FILLER)
    engine.register("1", TEMPLATE)
    with engine.open() as request:
        for placeholder, ids in CONTENTS.items():
            request.provide(placeholder, ids)
        return engine.take_turns([request], "1", max_new_tokens=1, keep_kv=[0])[0]


@pytest.mark.parametrize("first", FIRST_OF_SEGMENTS)
@pytest.mark.parametrize("model_type", ["llama", "qwen3"])
def test_epic_equals_its_rule_written_out_slowly(first: int, model_type: str) -> None:
    """Every layer's KV and the logits. Catches tokens of the leading text that are recomputed, a segment whose first
    tokens are not, a count that runs into the next segment, and a reused suffix."""
    model = tiny_model(model_type, layers=6)
    old = assemble(model, TEMPLATE, CONTENTS, header=HEADER, filler=FILLER)
    turn = take_turn(model, first)
    expected = rerun(model, turn.prompt.token_ids, old, [*FIRST_OF_SEGMENTS[first], *SUFFIX])
    torch.testing.assert_close(turn.first_logits_V, expected.logits_V, rtol=0, atol=1e-4)
    assert turn.prompt_kv is not None
    (keys_LHTD,), (values_LHTD,) = turn.prompt_kv.keys, turn.prompt_kv.values
    for layer, (keys_THD, values_THD) in enumerate(expected.kv):
        torch.testing.assert_close(keys_LHTD[layer].transpose(0, 1), keys_THD[:-1], rtol=0, atol=1e-4)
        torch.testing.assert_close(values_LHTD[layer].transpose(0, 1), values_THD[:-1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("first", FIRST_OF_SEGMENTS)
def test_the_account_of_a_turn(llama: LoadedModel, first: int) -> None:
    """Catches recomputed tokens that also count as reused or estimated, and an exact leading text that counts as
    estimated."""
    turn = take_turn(llama, first)
    recomputed = len(FIRST_OF_SEGMENTS[first])
    assert (turn.plan.mode, turn.plan.supplied, len(turn.prompt)) == ("partial", 15, 18)
    assert turn.plan.recomputed_tokens == recomputed
    assert turn.plan.estimated_tokens == 12 - recomputed
    assert turn.plan.reused_text_tokens == 3 + 2 - len({9, 10} & set(FIRST_OF_SEGMENTS[first]))
    assert turn.plan.reused_placeholder_tokens == 0  # the turn made the base KV of both holes itself
