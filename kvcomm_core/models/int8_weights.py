"""The trial field ``weights: int8``: replace the linear layers of a loaded model with int8 ones."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import Linear

from kvcomm_core.config import shown
from kvcomm_core.fused.int8_linear import ENGINE, Int8Linear
from kvcomm_core.models.model_config import ModelError
from kvcomm_core.models.quantisation import check_int8

DESCRIPTION = "int8 weights, 7-bit tokens, balanced columns"
"""The quantisation as records name it."""

_QUESTION = """A baker sells 12 loaves on Monday and 3 more each day after that. How many does she sell from Monday to
Friday? Show your steps, then write a Python function `sold(first, more, days)` that returns the answer."""
_ANSWER = """On Monday she sells 12 loaves, on Tuesday 15, on Wednesday 18, on Thursday 21 and on Friday 24.
12 + 15 + 18 + 21 + 24 = 90, so the answer is 90.

```python
def sold(first: int, more: int, days: int) -> int:
    \"\"\"Return how many loaves are sold in all.\"\"\"
    total = 0
    for day in range(days):
        total += first + more * day
    return total
```

For example, `sold(12, 3, 5)` returns 90. The same sum has a shorter form: the average of the first and the last day,
times the number of days. Please check that {"first": 12, "more": 3, "days": 5} gives the same result!"""
_RANDOM_TOKENS = 256
_LEAST_SHARE = 1e-6
"""Columns that hold less of the largest input are treated as if they held this much."""


def quantise_weights(name: str, network: Any, tokenizer: Any | None) -> None:
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
    peaks = _column_peaks(network, [linear for _, _, linear in linears], _calibration_ids(network, tokenizer))
    for module, child_name, child in linears:
        setattr(module, child_name, Int8Linear(child, _balance(peaks[child])))


def _balance(peak_I: Tensor) -> Tensor:
    """Return the factors of a layer's columns: the root of each one's largest input, relative to the largest of all.

    SmoothQuant also divides by the root of the largest weight. We leave it out, so that layers with the same input have
    the same factors, and round to powers of two, so that the last bits of another machine do not matter.
    """
    share_I = (peak_I / peak_I.max().clamp_min(torch.finfo(torch.float32).tiny)).clamp_min_(_LEAST_SHARE)
    balance_I: Tensor = torch.exp2(share_I.log2_().mul_(0.5).round_())
    return balance_I


@torch.no_grad()
def _column_peaks(network: Any, linears: list[Linear], ids_1S: Tensor) -> dict[Linear, Tensor]:
    """Return the largest absolute value in each column of each layer's inputs, or ones if it does not run."""
    peaks: dict[Linear, Tensor] = {linear: torch.ones(linear.in_features) for linear in linears}

    def keep(linear: Linear, inputs: tuple[Tensor]) -> None:
        peaks[linear] = inputs[0].float().flatten(end_dim=-2).abs().amax(dim=0)

    hooks = [linear.register_forward_pre_hook(keep) for linear in linears]
    try:
        network(ids_1S, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return peaks


def _calibration_ids(network: Any, tokenizer: Any | None) -> Tensor:
    """Return the tokens ``[1, S]`` that show which columns are large: a short conversation, or random ids where a model
    has no tokenizer. Special tokens are in it, since some have the largest inputs of all."""
    if tokenizer is None:
        generator = torch.Generator().manual_seed(0)
        return torch.randint(network.config.vocab_size, (1, _RANDOM_TOKENS), generator=generator)
    if tokenizer.chat_template:
        messages = [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}]
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        return torch.tensor([tokenizer(text, add_special_tokens=False).input_ids])
    return torch.tensor([tokenizer(f"{_QUESTION}\n\n{_ANSWER}").input_ids])
