"""Linear layers with int8 weights and int8 products on a CPU, for every family whose matrices are linear layers.

A weight matrix has one scale per output, ``max |w| / 127``. Each token is quantised by a scale of its own, ``max |x| /
63``, so that a token's result does not depend on what runs beside it: KV may be reused and rows may share a batch.
Tokens get 7 bits rather than 8: without VNNI a CPU adds two products in 16 bits, which they then always fit. Products
are therefore exact integers, and the same on every machine.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Linear

ENGINE = "fbgemm"
"""The library inside torch that packs and multiplies."""
_LARGEST_WEIGHT, _LARGEST_INPUT = 127, 63
_ZERO = 64
"""The unsigned integer that stands for 0 in a quantised token."""
_SMALLEST = torch.finfo(torch.float32).tiny


class Int8Linear(nn.Module):
    """A linear layer whose weights are int8."""

    def __init__(self, linear: Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        scale_O = linear.weight.float().abs().amax(dim=1).clamp_min(_SMALLEST) / _LARGEST_WEIGHT
        weight_OI = (linear.weight.float() / scale_O[:, None]).round().to(torch.int8)
        self.packed: Any = _pack(weight_OI, scale_O)

    def forward(self, input: Tensor) -> Tensor:
        """Return ``input @ weight.T + bias``, for input of any shape ``[..., I]``."""
        x_BI = input.reshape(-1, self.in_features)
        return int8_product(x_BI, [self.packed], self.bias).view(*input.shape[:-1], self.out_features)


def int8_product(x_BI: Tensor, packed: Sequence[Any], bias_O: Tensor | None) -> Tensor:
    """Return the product of tokens with one or several packed matrices, side by side ``[B, O]``."""
    scale_B1 = torch.linalg.vector_norm(x_BI, torch.inf, dim=1, keepdim=True).clamp_min_(_SMALLEST)
    scale_B1 /= _LARGEST_INPUT
    scaled_BI = x_BI / scale_B1
    multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
    parts = [multiply(scaled_BI, 1.0, _ZERO, each) for each in packed]
    y_BO = (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)).mul_(scale_B1).to(x_BI.dtype)
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
