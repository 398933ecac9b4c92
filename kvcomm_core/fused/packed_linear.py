"""Linear layers whose float32 matrices oneDNN has packed once, for products on a CPU.

MKL, which torch calls otherwise, computes one row on one thread, and for few rows reads a third of what memory gives;
how much depends on the maker of the CPU. oneDNN writes its code for the CPU it finds, and a packed matrix serves any
number of rows. Sums are ordered alike however many rows there are, so a row's product does not depend on the others.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Linear

_ROWS = 256
"""The number of rows that a matrix is packed for. Packed for 1 row, products of 8 rows took half as long again, and
those of one were not faster."""


def is_served(weight_OI: Tensor) -> bool:
    """Return whether :class:`PackedLinear` takes this matrix: plain float32 on a CPU whose torch has oneDNN."""
    plain = type(weight_OI.data) is Tensor and weight_OI.dtype == torch.float32 and weight_OI.device.type == "cpu"
    return plain and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class PackedLinear(nn.Module):
    """A linear layer that holds its matrix packed, and only so."""

    def __init__(self, linear: Linear, tied: Tensor | None = None) -> None:
        """``tied`` is the embedding whose matrix the layer shares, if any; the model holds that one, too."""
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        # torch's own compiler uses these two functions; no public one packs a matrix and takes plain inputs.
        self.packed: Any = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().contiguous(), _ROWS)
        self._tied = (tied,)

    @property
    def weight(self) -> Tensor:
        """The matrix ``[O, I]``: the embedding's own if it is tied, else a copy that takes memory and time."""
        [tied] = self._tied
        if tied is not None:
            return tied
        dense: Tensor = self.packed.to_dense()
        return dense

    def forward(self, input: Tensor) -> Tensor:
        """Return ``input @ weight.T + bias``, for input of any shape ``[..., I]``."""
        y: Tensor = torch.ops.mkldnn._linear_pointwise(input, self.packed, self.bias, "none", [], "")
        return y

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Save what the plain layer would have saved."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "weight"] = self.weight.detach()


def pack_linears(network: nn.Module) -> None:
    """Replace every plain linear layer whose matrix is served by a packed one, in place."""
    embeddings = {id(each.weight): each.weight for each in network.modules() if isinstance(each, nn.Embedding)}
    linears = [
        (module, child_name, child)
        for module in network.modules()
        for child_name, child in module.named_children()
        if type(child) is Linear and is_served(child.weight)
    ]
    for module, child_name, child in linears:
        setattr(module, child_name, PackedLinear(child, tied=embeddings.get(id(child.weight))))
