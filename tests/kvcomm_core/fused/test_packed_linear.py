"""Linear layers with packed matrices, against the plain product in float64, alone and inside a model."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_families import tiny_network
from torch.nn import Embedding, Linear, ModuleList

from kvcomm_core.fused.packed_linear import PackedLinear, is_served, pack_linears

pytestmark = pytest.mark.skipif(not is_served(torch.zeros(1, 1)), reason="this torch has no oneDNN")


def linear_layer(outputs: int, inputs: int, *, bias: bool, seed: int = 0) -> Linear:
    layer = Linear(inputs, outputs, bias=bias).requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parameter in layer.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return layer


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(1, 70), st.integers(1, 50), st.booleans(), st.integers(0, 2**31))
def test_products_equal_the_plain_one(rows: int, outputs: int, inputs: int, bias: bool, seed: int) -> None:
    """Catches a bias left out, a matrix turned round, padding of odd sizes, and an input that is not contiguous."""
    plain = linear_layer(outputs, inputs, bias=bias, seed=seed)
    x_IB = torch.randn(inputs, rows, generator=torch.Generator().manual_seed(seed))
    expected_BO = x_IB.T.double() @ plain.weight.double().T + (plain.bias.double() if bias else 0)
    torch.testing.assert_close(PackedLinear(plain)(x_IB.T).double(), expected_BO, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 2, 7, 16, 33])
def test_a_row_does_not_depend_on_those_beside_it(rows: int) -> None:
    """Catches sums that another number of rows orders in another way: a batch would change answers."""
    layer = PackedLinear(linear_layer(192, 576, bias=True))
    x_BI = torch.randn(64, 576, generator=torch.Generator().manual_seed(1))
    assert torch.equal(layer(x_BI[:rows]), layer(x_BI)[:rows])


def test_a_layer_keeps_the_shape_of_its_input() -> None:
    """Catches a layer that flattens the batch, and one that is replaced although its weights are not served."""
    network = ModuleList([Linear(6, 10), Linear(6, 10, dtype=torch.bfloat16)]).requires_grad_(False)
    x_BTI = torch.randn(2, 3, 6)
    expected_BTO = network[0](x_BTI)
    pack_linears(network)
    assert [type(module) for module in network] == [PackedLinear, Linear]
    torch.testing.assert_close(network[0](x_BTI), expected_BTO)
    torch.testing.assert_close(network[0](x_BTI[0, 0]), expected_BTO[0, 0])
    assert network[0](x_BTI[:0]).shape == (0, 3, 10)


def test_a_matrix_is_held_once_and_saved_as_it_was() -> None:
    """Catches packed matrices beside the plain ones, which would double a model's memory, and a saved model that lacks
    its matrices or holds a tied one twice."""
    network = tiny_network("llama")
    network.lm_head.weight = network.model.embed_tokens.weight
    saved = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    pack_linears(network)
    matrices = [name for name, parameter in network.named_parameters() if parameter.dim() > 1]
    assert matrices == ["model.embed_tokens.weight"]
    again = network.state_dict()
    assert again.keys() == saved.keys()
    assert all(torch.equal(again[name], saved[name]) for name in saved)
    embedding = network.model.embed_tokens
    assert isinstance(embedding, Embedding)
    assert network.lm_head.weight is embedding.weight
    assert again["lm_head.weight"].data_ptr() == again["model.embed_tokens.weight"].data_ptr()
