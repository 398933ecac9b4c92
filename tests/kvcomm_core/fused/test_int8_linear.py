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


def slow_product(x_BI: torch.Tensor, linear: Linear) -> torch.Tensor:
    """The product of integers, one row and one output at a time, in float64."""
    weight_OI = linear.weight.double()
    rows = []
    for x_I in x_BI.double():
        step = x_I.abs().max() / 63
        row = []
        for w_I in weight_OI:
            w_step = w_I.abs().max() / 127
            row.append(((x_I / step).round() * (w_I / w_step).round()).sum() * step * w_step)
        rows.append(torch.stack(row))
    bias = 0 if linear.bias is None else linear.bias.double()
    return torch.stack(rows) + bias


@pytest.mark.parametrize("bias", [True, False])
def test_products_are_those_of_integers(bias: bool) -> None:
    """Catches a scale per matrix, a bias that is scaled, sums that saturate, and a token whose result depends on its
    neighbours, here one that is a thousand times as large."""
    torch.manual_seed(0)
    linear = Linear(64, 24, bias=bias).requires_grad_(False)
    linear.weight[3] = 0.5  # with the largest inputs, every product of this row is at its limit
    x_BI = torch.randn(5, 64)
    x_BI[1] *= 1000
    x_BI[2] = 0.7
    packed = Int8Linear(linear)
    torch.testing.assert_close(packed(x_BI).double(), slow_product(x_BI, linear), rtol=1e-5, atol=1e-5)
    for row in range(5):
        assert torch.equal(packed(x_BI[row]), packed(x_BI)[row])
    assert torch.equal(packed(torch.zeros(2, 64)), (linear.bias if bias else torch.zeros(24)).expand(2, 24))
    assert packed(x_BI.view(1, 5, 64)).shape == (1, 5, 24)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in WITH_EXPERTS])
def test_all_linear_layers_of_a_family_become_int8(family: str) -> None:
    """Catches a family in which a linear layer stays float32, or whose code reads the weight of one."""
    network = tiny_network(family)
    quantise_weights(family, network)
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
        quantise_weights(family, tiny_network(family))
