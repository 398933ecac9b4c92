"""InfoFlow against its rule written out slowly, on models of six layers."""

import math

import pytest
import torch
from slow_cacheblend import Layers, assemble, project, rerun, rotate
from tiny_models import tiny_model
from torch import Tensor

from kvcomm_core.engine import Engine
from kvcomm_core.methods.baseline_config import InfoFlowConfig
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import Template, TokenIds
from kvcomm_core.turn import Turn

HEADER = (3, 4, 5)
FILLER = (9, 9)
# 3 tokens of leading text, a question of 6, a text of 2, a result of 9 and a suffix of 3.
TEMPLATE = Template(((3, 4, 5), (23, 24), (27, 28, 29)), ("user_question", "condition_1_current"))
CONTENTS: dict[str, TokenIds] = {
    "user_question": (50, 51, 52, 53, 54, 55),
    "condition_1_current": (7, 80, 13, 61, 33, 2, 90, 41, 16),
}
SUFFIX = [20, 21, 22]


def take_turn(model: LoadedModel, ratio: float) -> Turn:
    engine = Engine(model, InfoFlowConfig(ratio=ratio).build(model, HEADER), FILLER)
    engine.register("1", TEMPLATE)
    with engine.open() as request:
        for placeholder, ids in CONTENTS.items():
            request.provide(placeholder, ids)
        return engine.take_turns([request], "1", max_new_tokens=1, keep_kv=[0])[0]


@torch.inference_mode()
def most_attended(model: LoadedModel, ids: TokenIds, old: Layers, count: int) -> list[int]:
    """Return the ``count`` positions behind the leading text to which the suffix attends most, layer by layer, head by
    head and token by token."""
    decoder, norms = model.network.model, torch.zeros(SUFFIX[0])
    hidden_TE = decoder.embed_tokens(torch.tensor([ids[position] for position in SUFFIX]))
    for index, layer in enumerate(decoder.layers):
        q_THD, k_THD, v_THD = project(layer, hidden_TE)
        q_THD = rotate(model, q_THD, SUFFIX)
        keys, values = rotate(model, old[index][0], list(range(len(ids)))), old[index][1].clone()
        keys[SUFFIX], values[SUFFIX] = rotate(model, k_THD, SUFFIX), v_THD
        group = q_THD.shape[1] // keys.shape[1]
        mean_QC, out_THD = torch.zeros(len(SUFFIX), len(ids)), torch.empty_like(q_THD)
        for row, position in enumerate(SUFFIX):
            for head in range(q_THD.shape[1]):
                scores = keys[: position + 1, head // group] @ q_THD[row, head] / math.sqrt(q_THD.shape[2])
                weights: Tensor = torch.softmax(scores, dim=0)
                mean_QC[row, : position + 1] += weights / q_THD.shape[1]
                out_THD[row, head] = weights @ values[: position + 1, head // group]
        if index >= len(decoder.layers) - 2:
            norms += mean_QC.norm(dim=0)[: SUFFIX[0]] / 2
        hidden_TE = hidden_TE + layer.self_attn.o_proj(out_THD.flatten(1))
        hidden_TE = hidden_TE + layer.mlp(layer.post_attention_layernorm(hidden_TE))
    behind = sorted(range(3, SUFFIX[0]), key=lambda position: -float(norms[position]))
    return sorted(behind[:count])


@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("model_type", ["llama", "qwen3"])
def test_infoflow_equals_its_rule_written_out_slowly(ratio: float, model_type: str) -> None:
    """Every layer's KV and the logits. Catches attention of the wrong layers or of one head, exact leading text that is
    chosen, and a suffix that does not see what was recomputed."""
    model = tiny_model(model_type, layers=6)
    old = assemble(model, TEMPLATE, CONTENTS, header=HEADER, filler=FILLER)
    turn = take_turn(model, ratio)
    chosen = most_attended(model, turn.prompt.token_ids, old, min(int(20 * ratio), 17))
    expected = rerun(model, turn.prompt.token_ids, old, [*chosen, *SUFFIX])
    torch.testing.assert_close(turn.first_logits_V, expected.logits_V, rtol=0, atol=1e-4)
    assert turn.prompt_kv is not None
    (keys_LHTD,), (values_LHTD,) = turn.prompt_kv.keys, turn.prompt_kv.values
    for layer, (keys_THD, values_THD) in enumerate(expected.kv):
        torch.testing.assert_close(keys_LHTD[layer].transpose(0, 1), keys_THD[:-1], rtol=0, atol=1e-4)
        torch.testing.assert_close(values_LHTD[layer].transpose(0, 1), values_THD[:-1], rtol=0, atol=1e-4)


@pytest.mark.parametrize(("ratio", "chosen"), [(0.0, 0), (0.2, 4), (1.0, 17)])
def test_the_account_of_a_turn(llama: LoadedModel, ratio: float, chosen: int) -> None:
    """Catches the first run of the suffix that costs nothing."""
    plan = take_turn(llama, ratio).plan
    assert (plan.mode, plan.supplied) == ("partial", 20)
    assert plan.recomputed_tokens == (chosen + len(SUFFIX) if ratio else 0)
    assert plan.estimated_tokens == 17 - chosen


def test_the_models_own_attention_comes_back(llama: LoadedModel) -> None:
    """Catches a model that stays slow, or keeps a hook, after it was asked."""
    before = llama.network.config._attn_implementation
    take_turn(llama, 0.2)
    assert llama.network.config._attn_implementation == before
    assert not any(layer.self_attn._forward_hooks for layer in llama.network.model.layers)
