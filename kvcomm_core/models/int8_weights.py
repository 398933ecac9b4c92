"""The trial field ``weights: int8``: replace the linear layers of a loaded model with int8 ones."""

from typing import Any

import torch
from torch.nn import Linear

from kvcomm_core.config import shown
from kvcomm_core.fused.int8_linear import ENGINE, Int8Linear
from kvcomm_core.models.model_config import ModelError
from kvcomm_core.models.quantisation import check_int8

DESCRIPTION = "int8 weights, 7-bit tokens"
"""The quantisation as records name it."""


def quantise_weights(name: str, network: Any) -> None:
    """Replace all linear layers of a network on a CPU with int8 ones, in place. The embedding stays as it is, even if
    the output layer is tied to it. Raise ``ModelError`` where the machine or the model cannot have them."""
    check_int8(name, network.config.to_dict())
    for is_so, why in (
        (ENGINE not in torch.backends.quantized.supported_engines, f"this machine's torch has no {ENGINE}"),
        (network.device.type != "cpu", "the model is on a GPU; take a checkpoint with quantised weights there"),
    ):
        if is_so:
            raise ModelError(f"model is {shown(name)}; weights is 'int8'; allowed: model, since {why}")
    linears = [
        (module, child_name, child)
        for module in network.modules()
        for child_name, child in module.named_children()
        if type(child) is Linear
    ]
    for module, child_name, child in linears:
        setattr(module, child_name, Int8Linear(child))
