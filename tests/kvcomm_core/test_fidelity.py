import math

import pytest
import torch

from kvcomm_core.fidelity import next_token_fidelity
from kvcomm_core.model import LoadedModel

PROMPT = (5, 11, 2, 60, 33)


def test_dense_is_at_no_distance_from_itself(llama: LoadedModel) -> None:
    """Would catch comparing against another position's logits."""
    with torch.inference_mode():
        logits_V = llama.network(torch.tensor([PROMPT])).logits[0, -1]
    fidelity = next_token_fidelity(llama, PROMPT, logits_V)
    assert fidelity.kl == pytest.approx(0, abs=1e-9)
    assert fidelity.top1_agree


def test_kl_equals_its_definition(llama: LoadedModel) -> None:
    """Would catch the divergence the other way round, which is another number."""
    with torch.inference_mode():
        dense = llama.network(torch.tensor([PROMPT])).logits[0, -1].double()
    other = -dense
    p, q = (torch.softmax(logits, 0).tolist() for logits in (dense, other))
    expected = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    fidelity = next_token_fidelity(llama, PROMPT, other.float())
    assert fidelity.kl == pytest.approx(expected, rel=1e-4)
    assert not fidelity.top1_agree
