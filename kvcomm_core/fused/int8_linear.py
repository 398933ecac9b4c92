"""Linear layers with int8 weights and int8 products on a CPU, for every family whose matrices are linear layers.

A weight matrix has one scale per output, ``max |w| / 127``. Each token has a scale and a zero point of its own, so its
128 levels reach from its smallest to its largest value, and its result does not depend on what runs beside it: KV may
be reused and rows may share a batch. Tokens get 7 bits rather than 8: without VNNI a CPU adds two products in 16 bits,
which they then always fit. Products are therefore exact integers, and the same on every machine.

A few columns of the inputs are far larger than the others and would leave these a handful of levels. ``balance_I``, one
factor per column, moves part of their size into the weights, as SmoothQuant does (Xiao et al. 2023, arXiv 2211.10438).
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Linear

ENGINE = "fbgemm"
"""The library inside torch that packs and multiplies."""
_LARGEST_WEIGHT = 127
_LEVELS = 127
"""Steps between a token's smallest and largest value. Rounding may add one, and 2 x 128 x 127 still fits 16 bits."""
_SMALLEST = torch.finfo(torch.float32).tiny


class Int8Linear(nn.Module):
    """A linear layer whose weights are int8."""

    def __init__(self, linear: Linear, balance_I: Tensor | None = None) -> None:
        """Inputs are divided by ``balance_I`` and the weights multiplied by it; None for no balance."""
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        weight_OI = linear.weight.detach().float()
        if balance_I is not None:
            weight_OI = weight_OI * balance_I
        self.inverse_I = None if balance_I is None else 1 / balance_I
        scale_O = weight_OI.abs().amax(dim=1).clamp_min(_SMALLEST) / _LARGEST_WEIGHT
        int8_OI = (weight_OI / scale_O[:, None]).round().to(torch.int8)
        self.sums_O: Tensor = int8_OI.sum(dim=1) * scale_O
        """The sum of each output's weights, which a token's zero point is multiplied by."""
        self.packed: Any = _pack(int8_OI, scale_O)

    def forward(self, input: Tensor) -> Tensor:
        """Return ``input @ weight.T + bias``, for input of any shape ``[..., I]``."""
        y_BO = int8_product(input.reshape(-1, self.in_features), [self], self.sums_O, self.bias)
        return y_BO.view(*input.shape[:-1], self.out_features)


def int8_product(x_BI: Tensor, linears: Sequence[Int8Linear], sums_O: Tensor, bias_O: Tensor | None) -> Tensor:
    """Return the products of tokens with linear layers of the same balance, side by side ``[B, O]``.

    ``sums_O`` and ``bias_O`` are the layers' own, side by side.
    """
    dtype, inverse_I = x_BI.dtype, linears[0].inverse_I
    x_BI = x_BI.float() if inverse_I is None else x_BI * inverse_I
    low_B1, high_B1 = torch.aminmax(x_BI, dim=1, keepdim=True)
    step_B1 = (high_B1.clamp_min(0) - low_B1.clamp_max(0)).div_(_LEVELS).clamp_min_(_SMALLEST)
    zero_B1 = (low_B1.clamp_max(0) / step_B1).round_()
    levels_BI = (x_BI / step_B1).sub_(zero_B1)
    multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
    parts = [multiply(levels_BI, 1.0, 0, linear.packed) for linear in linears]
    y_BO = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
    y_BO = y_BO.addcmul_(zero_B1, sums_O).mul_(step_B1).to(dtype)
    return y_BO if bias_O is None else y_BO + bias_O


def _pack(weight_OI: Tensor, scale_O: Tensor) -> Any:
    """Return a matrix in the library's own layout.

    torch warns that it will give up the tensors from which a matrix is packed. ``torch._int_mm`` takes plain ones, and
    is as fast with VNNI, but two to five times as slow for one row on a CPU without.
    """
    before = torch.backends.quantized.engine
    # The engine that packs a matrix also multiplies it. It is a setting of the process, which others may rely on.
    torch.backends.quantized.engine = ENGINE
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*quantized tensor creation functions")
            zeros_O = torch.zeros(len(scale_O), dtype=torch.long)
            matrix = torch._make_per_channel_quantized_tensor(weight_OI, scale_O.double(), zeros_O, 0)
        return torch.ops.quantized.linear_prepack(matrix, None)
    finally:
        torch.backends.quantized.engine = before
