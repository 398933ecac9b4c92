"""Linear layers with int8 weights, against the same arithmetic in float64, and inside models."""

import pytest
import torch
from tiny_families import tiny_network
from torch.nn import Linear

from kvcomm_core.decode import advance, advance_one, to_logits
from kvcomm_core.fused.int8_linear import ENGINE, Int8Linear
from kvcomm_core.kv import KVBuffer
from kvcomm_core.models.families import FAMILIES
from kvcomm_core.models.int8_weights import quantise_weights
from kvcomm_core.models.loading import wrap_model
from kvcomm_core.models.model_config import ModelError

pytestmark = pytest.mark.skipif(
    ENGINE not in torch.backends.quantized.supported_engines, reason=f"this torch has no {ENGINE}"
)
WITH_EXPERTS = {"qwen2_moe", "qwen3_moe", "mixtral", "gpt_oss", "granitemoe", "olmoe", "glm4_moe", "ernie4_5_moe"}


def slow_product(x_BI: torch.Tensor, linear: Linear, balance_I: torch.Tensor) -> torch.Tensor:
    """The product of integers, one row and one output at a time, in float64."""
    weight_OI = linear.weight.double() * balance_I
    rows = []
    for x_I in x_BI.double() / balance_I:
        lowest, highest = min(0.0, float(x_I.min())), max(0.0, float(x_I.max()))
        step = (highest - lowest) / 127
        zero = round(lowest / step)
        row = []
        for w_I in weight_OI:
            w_step = w_I.abs().max() / 127
            row.append((((x_I / step - zero).round() + zero) * (w_I / w_step).round()).sum() * step * w_step)
        rows.append(torch.stack(row))
    bias = 0 if linear.bias is None else linear.bias.double()
    return torch.stack(rows) + bias


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_products_are_those_of_integers(bias: bool, balanced: bool) -> None:
    """Catches a scale per matrix, a bias or a zero point that is scaled otherwise, sums that saturate, and a token
    whose result depends on its neighbours, here one that is a thousand times as large."""
    torch.manual_seed(0)
    linear = Linear(64, 24, bias=bias).requires_grad_(False)
    linear.weight[3] = 0.5  # with the largest inputs, every product of this row is at its limit
    x_BI = torch.randn(6, 64)
    x_BI[1] *= 1000
    x_BI[2] = 0.7
    x_BI[3] = -0.7
    x_BI[4, ::2], x_BI[4, 1::2] = 1.0, -0.004  # rounding to the nearest level needs one more than 127
    balance_I = torch.exp2(torch.randint(-4, 1, (64,)).float()) if balanced else None
    packed = Int8Linear(linear, balance_I)
    expected_BO = slow_product(x_BI, linear, torch.ones(64) if balance_I is None else balance_I)
    largest_B1 = x_BI.abs().amax(dim=1, keepdim=True)
    torch.testing.assert_close(packed(x_BI).double() / largest_B1, expected_BO / largest_B1, rtol=1e-5, atol=1e-5)
    for row in range(6):
        assert torch.equal(packed(x_BI[row]), packed(x_BI)[row])
    assert torch.equal(packed(torch.zeros(2, 64)), (linear.bias if bias else torch.zeros(24)).expand(2, 24))
    assert packed(x_BI.view(2, 3, 64)).shape == (2, 3, 24)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in WITH_EXPERTS])
def test_all_linear_layers_of_a_family_become_int8(family: str) -> None:
    """Catches a family in which a linear layer stays float32, or whose code reads the weight of one."""
    network = tiny_network(family)
    quantise_weights(family, network, tokenizer=None)
    assert not any(type(module) is Linear for module in network.modules())
    model = wrap_model(family, network, None)
    buffer = KVBuffer(model.layout, rows=1, capacity=12)
    advance(model, [(5, 11, 2, 60, 33)], buffer)
    logits_V = to_logits(model, advance_one(model, [7], buffer, slots=[5], positions=[5]))[0]
    with torch.inference_mode():
        expected_V = model.network(torch.tensor([[5, 11, 2, 60, 33, 7]])).logits[0, -1]
    # A difference in the last bit may round an input the other way, which is a 63rd of the largest one.
    torch.testing.assert_close(logits_V, expected_V, rtol=0.1, atol=0.1 * float(expected_V.abs().max()))
    if family in ("llama", "qwen2", "qwen3"):
        assert model.decoding == "fused"


@pytest.mark.parametrize("family", sorted(WITH_EXPERTS))
def test_experts_are_refused(family: str) -> None:
    """Catches a model whose experts would stay float32 under the name of int8."""
    with pytest.raises(ModelError, match="weights is 'int8'; allowed: model, since it has experts"):
        quantise_weights(family, tiny_network(family), tokenizer=None)


def test_balance_moves_the_size_of_columns_into_the_weights() -> None:
    """Catches factors of another column, weights that are divided too, layers of one input with different factors, and
    a column that is 0 in the calibration."""
    torch.manual_seed(0)
    network = tiny_network("llama")
    norm = network.model.layers[0].input_layernorm
    norm.weight.data[5], norm.weight.data[7] = 200.0, 0.0
    attention = network.model.layers[0].self_attn
    plain = {name: getattr(attention, name) for name in ("q_proj", "k_proj", "v_proj")}
    ids_1S = torch.tensor([[5, 11, 2, 60, 33, 7, 9, 40]])
    with torch.no_grad():
        x_BI = norm(network.model.embed_tokens(ids_1S))[0]
        expected = {name: linear(x_BI) for name, linear in plain.items()}
        quantise_weights("llama", network, tokenizer=None)
        for name, linear in plain.items():
            balanced, unbalanced = getattr(attention, name), Int8Linear(linear)
            assert torch.equal(balanced.inverse_I, attention.q_proj.inverse_I)
            assert int(balanced.inverse_I.argmin()) == 5
            error = (balanced(x_BI) - expected[name]).norm()
            assert error < 0.5 * (unbalanced(x_BI) - expected[name]).norm()
