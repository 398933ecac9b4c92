"""Relay against its rule written out slowly, on models of six layers."""

import pytest
import torch
from slow_cacheblend import assemble, blend
from tiny_models import tiny_model

from kvcomm_core.config import MethodConfig
from kvcomm_core.engine import Engine
from kvcomm_core.methods.baseline_config import RelayConfig
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import Template, TokenIds
from kvcomm_core.turn import Turn

HEADER = (3, 4, 5)
FILLER = (9, 9)
# 4 tokens of leading text, 20 in holes and between them, and a suffix of 3.
TEMPLATE = Template(((3, 4, 5, 6), (23, 24), (27, 28, 29)), ("user_question", "condition_1_current"))
CONTENTS: dict[str, TokenIds] = {
    "user_question": tuple(range(50, 62)),
    "condition_1_current": (7, 80, 13, 61, 33, 2),
}


def take_turn(model: LoadedModel, config: MethodConfig) -> Turn:
    engine = Engine(model, config.build(model, HEADER), FILLER)
    engine.register("1", TEMPLATE)
    with engine.open() as request:
        for placeholder, ids in CONTENTS.items():
            request.provide(placeholder, ids)
        return engine.take_turns([request], "1", max_new_tokens=1, keep_kv=[0])[0]


@pytest.mark.parametrize(("depth", "until"), [(0.1, 2), (0.5, 3), (0.75, 4), (0.99, 6), (1.0, None)])
@pytest.mark.parametrize("model_type", ["llama", "qwen3"])
def test_relay_equals_its_rule_written_out_slowly(depth: float, until: int | None, model_type: str) -> None:
    """Every layer's KV and the logits. Catches tokens that run one layer too many or too few, last layers that lose
    what was reused, and a suffix that stops with the other tokens."""
    model = tiny_model(model_type, layers=6)
    old = assemble(model, TEMPLATE, CONTENTS, header=HEADER, filler=FILLER)
    turn = take_turn(model, RelayConfig(ratio=0.25, depth=depth))
    expected = blend(model, turn.prompt.token_ids, old, suffix=3, ratio=0.25, part="values", until=until)
    torch.testing.assert_close(turn.first_logits_V, expected.logits_V, rtol=0, atol=1e-4)
    assert turn.prompt_kv is not None
    (keys_LHTD,), (values_LHTD,) = turn.prompt_kv.keys, turn.prompt_kv.values
    for layer, (keys_THD, values_THD) in enumerate(expected.kv):
        torch.testing.assert_close(keys_LHTD[layer].transpose(0, 1), keys_THD[:-1], rtol=0, atol=1e-4)
        torch.testing.assert_close(values_LHTD[layer].transpose(0, 1), values_THD[:-1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("depth", [0.1, 0.5, 1.0])
def test_the_account_of_a_turn(llama: LoadedModel, depth: float) -> None:
    """20 tokens run through two layers, and 6 of 24 through the others up to the depth. Catches layers that were not
    run and count, and tokens recomputed in part that count as reused."""
    turn = take_turn(llama, RelayConfig(ratio=0.25, depth=depth))
    total = llama.layout.groups[0].layers
    layers = {0.1: 2, 0.5: round(0.5 * total), 1.0: total}[depth]
    assert turn.plan.recomputed_tokens == pytest.approx((2 * 20 + (layers - 2) * 6) / total)
    assert turn.plan.estimated_tokens == 20 - 6
    assert turn.plan.supplied == 24


@pytest.mark.parametrize(("field", "value"), [("ratio", 1.1), ("ratio", -0.1), ("depth", 0.0), ("depth", 1.5)])
def test_other_shares_are_refused(field: str, value: float) -> None:
    """Catches a share that selects more tokens, or layers, than there are."""
    with pytest.raises(ValueError, match=f"{field} is {value}; allowed: "):
        RelayConfig(**{field: value})
