"""Products of few rows, against the plain product in float64."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kvcomm_core.fused.products import FEW, FewRowsLinear, product, use_few_rows


@settings(max_examples=60, deadline=None)
@given(st.integers(1, FEW + 4), st.integers(1, 70), st.integers(1, 50), st.booleans(), st.integers(0, 2**31))
def test_products_equal_the_plain_one(rows: int, outputs: int, inputs: int, has_bias: bool, seed: int) -> None:
    """Catches parts in the wrong order, a prime number of outputs, a bias left out, and rows mixed up."""
    generator = torch.Generator().manual_seed(seed)
    x_BI, weight_OI = (torch.randn(n, inputs, generator=generator) for n in (rows, outputs))
    bias_O = torch.randn(outputs, generator=generator) if has_bias else None
    expected_BO = x_BI.double() @ weight_OI.double().T + (0 if bias_O is None else bias_O.double())
    torch.testing.assert_close(product(x_BI, weight_OI, bias_O).double(), expected_BO, rtol=1e-4, atol=1e-4)


def test_a_layer_keeps_the_shape_of_its_input() -> None:
    """Catches a layer that flattens the batch, and one that is replaced although its weights are not served."""
    network = torch.nn.ModuleList([torch.nn.Linear(6, 10), torch.nn.Linear(6, 10, dtype=torch.bfloat16)])
    x_BTI = torch.randn(2, 3, 6)
    expected_BTO = network[0](x_BTI)
    use_few_rows(network)
    assert [type(module) for module in network] == [FewRowsLinear, torch.nn.Linear]
    torch.testing.assert_close(network[0](x_BTI), expected_BTO)
    torch.testing.assert_close(network[0](x_BTI[0, 0]), expected_BTO[0, 0])
    assert network[0](x_BTI[:0]).shape == (0, 3, 10)
