"""Decide whether a new sample of a placeholder is shareable or must become an anchor (paper Eq. 5).

Every criterion first counts its candidates A: the anchors at least as long as the sample (for ``always``: all anchors).
With fewer than ``min_anchors`` candidates the sample becomes a new anchor. The paper's first condition, a sample longer
than every anchor, is the case of no candidates. Otherwise:

``entropy_fitted``    shareable if H(softmax(-d / match_temperature)) <= gamma log |A|   (Eq. 5)
``entropy_upstream``  shareable if H(softmax(-D)) <= gamma log |A|, as the public code computes it
``length``            shareable                                                          (table A.3, "length only")
``always``            shareable, whatever its length; but with an estimator that needs an anchor at least as long
                      (all but ``mean``), a longer sample still becomes an anchor

Criteria compare the base values of a sample and an anchor over all layers, heads, channels and the sample's T tokens.
They use the Euclidean distance D(psi) = ||v - v_psi[:T]|| or the *relative* distance d(psi) = D(psi) / ||v||.

The paper writes w = softmax(-||h - h_psi||) and leaves h and the norm's scale open. Its public code takes D, which is
in the hundreds, so w is one-hot and the test accepts nearly every sample of fitting length. d does not depend on the
model or the length. But for unrelated samples its values lie so close together (1.29 with a spread of 0.02 between
GSM8K questions on SmolLM2-135M) that gamma only has a meaning with a temperature. We chose the default 0.005 by
measurement on the first 60 GSM8K test questions, with the first 20 as anchors. Two anchors are long enough for 39 of
the others. The test accepts 46 / 74 / 92 / 100 % of these 39 at gamma 0.1 / 0.3 / 0.5 / 0.7, where the paper's table 6
reports reuse of 34 / 73 / 95 / 98 % of turns.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kvcomm_core.config import KVCommConfig

Values = tuple[Tensor, ...]
"""Base values of a sample, ``[L, H, T, D]`` per layer group."""


@dataclass(frozen=True, slots=True)
class Distances:
    """Euclidean distances D of a sample to each candidate ``[A]`` float64, and the sample's own norm."""

    euclidean_A: Tensor
    norm: float

    def relative(self) -> Tensor:
        """Return d = D / ||v||, ``[A]``; 0 for an empty sample."""
        return self.euclidean_A / self.norm if self.norm else self.euclidean_A


def measure_distances(values: Values, anchors: Sequence[Values]) -> Distances:
    """Measure the distances of a sample to anchors at least as long. Only the first T tokens of each anchor count."""
    tokens = values[0].shape[2]
    distances = [
        _norm(part for v, a in zip(values, anchor, strict=True) for part in _differences(v, a[:, :, :tokens]))
        for anchor in anchors
    ]
    return Distances(torch.tensor(distances, dtype=torch.float64), _norm(part for v in values for part in _parts(v)))


def _differences(v: Tensor, a: Tensor) -> Iterator[Tensor]:
    """Yield ``v - a``, ``[L, H, T, D]``, in parts. On a CPU each part reuses the memory of the one before: one
    layer's difference stays in the cache, while memory for a whole sample would be freed and touched anew every
    time."""
    if v.device.type != "cpu":
        yield v - a.to(v.device)
        return
    difference_HTD = torch.empty_like(v[0])
    for v_HTD, a_HTD in zip(v, a, strict=True):
        yield torch.sub(v_HTD, a_HTD, out=difference_HTD)


def _parts(v: Tensor) -> Sequence[Tensor]:
    """Return the layers on a CPU, whose float32 sums over millions of squares are off by a thousandth. Return the
    whole on a GPU, whose sums are accurate and which would wait for each layer."""
    return v.unbind() if v.device.type == "cpu" else (v,)


def entropy(weights_A: Tensor) -> float:
    """Return the Shannon entropy of weights that sum to 1, in nats; 0 log 0 = 0."""
    return float(torch.special.entr(weights_A).sum())


def is_shareable(distances: Distances, config: KVCommConfig) -> bool:
    """Test the second condition on the distances to the candidates, of which there are at least ``min_anchors``."""
    if config.criterion == "entropy_fitted":
        logits_A = -distances.relative() / config.match_temperature
    elif config.criterion == "entropy_upstream":
        logits_A = -distances.euclidean_A
    else:
        return True
    # Uniform weights at gamma = 1 must pass in spite of rounding.
    return entropy(torch.softmax(logits_A, dim=0)) <= config.gamma * math.log(len(logits_A)) + 1e-9


def _norm(tensors: Iterable[Tensor]) -> float:
    """Return the Euclidean norm over all tensors. Each is summed in float32 before the next one is made."""
    return math.sqrt(sum(float(torch.linalg.vector_norm(t, dtype=torch.float32)) ** 2 for t in tensors))
