"""How far a method's output is from dense prefill of the same prompt. Needs no labels."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kvcomm_core.decode import advance, to_logits
from kvcomm_core.kv import KVBuffer
from kvcomm_core.model import LoadedModel
from kvcomm_core.template import TokenIds


@dataclass(frozen=True, slots=True)
class NextTokenFidelity:
    """The next-token distribution of a method against that of dense prefill."""

    kl: float
    """KL(dense || method) in nats, 0 or more."""
    top1_agree: bool
    """Whether both put the same token first."""


def next_token_fidelity(model: LoadedModel, prompt_ids: TokenIds, logits_V: Tensor) -> NextTokenFidelity:
    """Compare a method's first-token ``logits_V`` with a dense prefill of ``prompt_ids``, done here."""
    buffer = KVBuffer(model.layout, rows=1, capacity=len(prompt_ids))
    dense_V = to_logits(model, advance(model, [prompt_ids], buffer))[0]
    log_dense_V = torch.log_softmax(dense_V.double(), dim=-1)
    log_method_V = torch.log_softmax(logits_V.double(), dim=-1)
    # Rounding can leave a divergence of 0 a hair below it.
    kl = float(torch.nn.functional.kl_div(log_method_V, log_dense_V, reduction="sum", log_target=True).clamp_min(0))
    return NextTokenFidelity(kl, bool(dense_V.argmax() == logits_V.argmax()))
