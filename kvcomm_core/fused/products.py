"""Products of few rows with a large matrix, which reading the matrix bounds.

For one row MKL computes a dot product per output on one thread and reads a third of what memory gives. Its batched
product reads at full speed on all threads, if the matrix comes in at least two parts. For few rows, the matrix on the
left is up to three times as fast as on the right. Sums are ordered in another way, and nothing else changes.
"""

from functools import cache

import torch
from torch import Tensor
from torch.nn import Linear, functional

FEW = 16
"""Rows up to which the matrix stands on the left. On two cores, beside other work, it was 1.5 to 8 times as fast with
2 rows, and 0.8 to 2.3 times with 8 to 16."""


def is_served(weight_OI: Tensor) -> bool:
    """Return whether :func:`product` takes this matrix: float32 in one piece on a CPU whose torch has MKL."""
    plain = type(weight_OI.data) is Tensor and weight_OI.dtype == torch.float32 and weight_OI.is_contiguous()
    return plain and weight_OI.device.type == "cpu" and torch.backends.mkl.is_available()


def product(x_BI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """Return ``x_BI @ weight_OI.T + bias_O``, ``[B, O]``, for a matrix that is served."""
    rows, (outputs, inputs) = x_BI.shape[0], weight_OI.shape
    if not 0 < rows <= FEW:
        return functional.linear(x_BI, weight_OI, bias_O)
    if rows > 1:
        y_BO = torch.mm(weight_OI, x_BI.T).T
    else:
        parts = _parts(outputs, torch.get_num_threads())
        weight_POI = weight_OI.view(parts, outputs // parts, inputs)
        y_BO = torch.bmm(weight_POI, x_BI.view(inputs, 1).expand(parts, inputs, 1)).view(1, outputs)
    return y_BO if bias_O is None else y_BO + bias_O


@cache
def _parts(outputs: int, threads: int) -> int:
    """Return how many equal parts a matrix of ``outputs`` rows comes in: one per thread if that divides them."""
    return next((parts for parts in range(max(2, threads), 1, -1) if outputs % parts == 0), 1)


class FewRowsLinear(Linear):
    """A linear layer of transformers that multiplies few rows by :func:`product`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return ``input @ weight.T + bias``, for input of any shape ``[..., I]``."""
        rows = input.numel() // self.in_features
        if not 0 < rows <= FEW:
            return super().forward(input)
        y_BO = product(input.reshape(rows, self.in_features), self.weight, self.bias)
        return y_BO.view(*input.shape[:-1], self.out_features) if input.dim() != 2 else y_BO


def use_few_rows(network: torch.nn.Module) -> None:
    """Let every plain linear layer whose matrix is served multiply few rows by :func:`product`, in place."""
    for module in network.modules():
        if type(module) is Linear and is_served(module.weight):
            module.__class__ = FewRowsLinear
