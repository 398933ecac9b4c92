"""Is a new sample of a placeholder shareable, or must it become an anchor (paper Eq. 5)?

A sample is compared with an anchor by the *relative RMS distance* of their base values, over all layers, heads,
channels and the sample's T tokens:

    d(psi) = rms(v - v_psi[:T]) / rms(v)

The paper writes w = softmax(-||h - h_psi||) and leaves h and the norm's scale open. Its public code takes the norm
of the whole un-normalised value cache, which is in the hundreds, so that w is one-hot and the test accepts nearly
everything of fitting length. A relative distance does not depend on the model or the length, but lies so close
together for unrelated samples (1.29 with a spread of 0.02 between GSM8K questions on SmolLM2-135M) that it needs a
temperature for gamma to mean anything. The default 0.005 was chosen by measurement: with 20 GSM8K questions as
anchors it accepts 46 / 74 / 92 / 100 % of other questions at gamma 0.1 / 0.3 / 0.5 / 0.7, where the paper's table 6
reports reuse of 34 / 73 / 95 / 98 %.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def relative_distances(values: Sequence[Tensor], anchor_values: Sequence[Sequence[Tensor]]) -> Tensor:
    """Relative RMS distance of a sample to each anchor, ``[A]`` float64 on the CPU.

    ``values``: the sample's base values, ``[L, H, T, D]`` per layer group. ``anchor_values``: the same of each
    anchor, at least T tokens long; its first T are compared. An empty sample (T = 0) is at distance 0 of all.
    """
    tokens = values[0].shape[2]
    if tokens == 0:
        return torch.zeros(len(anchor_values), dtype=torch.float64)
    norm = _norm(values)
    distances = [
        _norm([v - a[:, :, :tokens] for v, a in zip(values, anchor, strict=True)]) / norm for anchor in anchor_values
    ]
    return torch.tensor(distances, dtype=torch.float64)


def weights_from_distances(distances_A: Tensor, temperature: float) -> Tensor:
    """softmax(-d / temperature), ``[A]``."""
    return torch.softmax(-distances_A / temperature, dim=0)


def entropy(weights_A: Tensor) -> float:
    """Shannon entropy of weights that sum to 1, in nats; 0 log 0 = 0."""
    return float(torch.special.entr(weights_A).sum())


def entropy_paper(distances_A: Tensor, *, gamma: float, temperature: float) -> bool:
    """Second part of Eq. 5: shareable if H(w) <= gamma * log |A|.

    A are the anchors at least as long as the sample. The first part (a sample longer than every anchor is new)
    is that A is empty, which the caller sees before it measures distances.
    """
    weights_A = weights_from_distances(distances_A, temperature)
    # Uniform weights at gamma = 1 must pass in spite of rounding.
    return entropy(weights_A) <= gamma * math.log(len(distances_A)) + 1e-9


def _norm(tensors: Sequence[Tensor]) -> float:
    """Euclidean norm over all tensors, accumulated in float32 per group at least."""
    return math.sqrt(sum(float(torch.linalg.vector_norm(t, dtype=torch.float32)) ** 2 for t in tensors))
