"""Is a new sample of a placeholder shareable, or must it become an anchor (paper Eq. 5)?

Every criterion first counts its candidates A: the anchors at least as long as the sample (for ``always``: all).
Fewer than ``min_anchors`` of them, and the sample is a new anchor; the paper's first condition, a sample longer than
every anchor, is the case of none. Then:

``entropy_paper``     shareable if H(softmax(-d / match_temperature)) <= gamma log |A|   (Eq. 5)
``entropy_upstream``  shareable if H(softmax(-D)) <= gamma log |A|, as the public code computes it
``length``            shareable                                                          (table A.3, "length only")
``always``            shareable, whatever its length; with an estimator that needs an anchor at least as long
                      (all but ``mean``) a longer sample is an anchor all the same

A sample is compared with an anchor by the base values of both, over all layers, heads, channels and the sample's T
tokens: by their Euclidean distance D(psi) = ||v - v_psi[:T]||, or by the *relative* distance d(psi) = D(psi) / ||v||.

The paper writes w = softmax(-||h - h_psi||) and leaves h and the norm's scale open. Its public code takes D, which is
in the hundreds, so that w is one-hot and the test accepts nearly everything of fitting length. d does not depend on
the model or the length, but lies so close together for unrelated samples (1.29 with a spread of 0.02 between GSM8K
questions on SmolLM2-135M) that it needs a temperature for gamma to mean anything. The default 0.005 was chosen by
measurement: of the first 60 GSM8K test questions, the first 20 as anchors, it accepts 46 / 74 / 92 / 100 % of the 39
others that two anchors are long enough for, at gamma 0.1 / 0.3 / 0.5 / 0.7, where the paper's table 6 reports reuse of
34 / 73 / 95 / 98 % of turns.
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
        """d = D / ||v||, ``[A]``; 0 for an empty sample."""
        return self.euclidean_A / self.norm if self.norm else self.euclidean_A


def measure_distances(values: Values, anchors: Sequence[Values]) -> Distances:
    """Distances of a sample to anchors at least as long, of which the first T tokens are compared."""
    tokens = values[0].shape[2]
    distances = [
        _norm(part for v, a in zip(values, anchor, strict=True) for part in _differences(v, a[:, :, :tokens]))
        for anchor in anchors
    ]
    return Distances(torch.tensor(distances, dtype=torch.float64), _norm(part for v in values for part in _parts(v)))


def _differences(v: Tensor, a: Tensor) -> Iterator[Tensor]:
    """``v - a``, ``[L, H, T, D]``, in parts; on a CPU each in the memory of the one before. One layer's stays in the
    cache, while memory for a whole sample is given back and touched anew every time."""
    if v.device.type != "cpu":
        yield v - a.to(v.device)
        return
    difference_HTD = torch.empty_like(v[0])
    for v_HTD, a_HTD in zip(v, a, strict=True):
        yield torch.sub(v_HTD, a_HTD, out=difference_HTD)


def _parts(v: Tensor) -> Sequence[Tensor]:
    """On a CPU the layers: its float32 sums over millions of squares are off by a thousandth. A GPU's are not, and it
    would wait for each."""
    return v.unbind() if v.device.type == "cpu" else (v,)


def entropy(weights_A: Tensor) -> float:
    """Shannon entropy of weights that sum to 1, in nats; 0 log 0 = 0."""
    return float(torch.special.entr(weights_A).sum())


def is_shareable(distances: Distances, config: KVCommConfig) -> bool:
    """The second condition: what the distances to the candidates, at least ``min_anchors``, say."""
    if config.criterion == "entropy_paper":
        logits_A = -distances.relative() / config.match_temperature
    elif config.criterion == "entropy_upstream":
        logits_A = -distances.euclidean_A
    else:
        return True
    # Uniform weights at gamma = 1 must pass in spite of rounding.
    return entropy(torch.softmax(logits_A, dim=0)) <= config.gamma * math.log(len(logits_A)) + 1e-9


def _norm(tensors: Iterable[Tensor]) -> float:
    """Euclidean norm over all tensors, of which each is summed before the next one comes, in float32."""
    return math.sqrt(sum(float(torch.linalg.vector_norm(t, dtype=torch.float32)) ** 2 for t in tensors))
