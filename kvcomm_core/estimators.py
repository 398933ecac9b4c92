"""Weights of anchors: how much each anchor's offset counts in an estimate.

An estimate is a weighted sum over the matched anchors, ``sum_psi w_psi * offset_psi``, for a placeholder (Eq. 6) and
for the text segment after it (Eq. 7). Let v be the sample's base values and d the relative distances of ``criteria``:

``l2_norm``   w = softmax(-d / blend_temperature) over anchors, for both. The paper uses one w for the test and for
              blending. We give blending a temperature of its own, since weights sharp enough for the entropy test
              are close to one-hot, and a single anchor is a poor estimate.
``upstream``  the public code's two weightings: for the placeholder w[t] = softmax(-mean_{l,h,c} |v - v_psi|) at each
              token t, close to uniform; for the text w[l,h,c] = softmax(-||v - v_psi||) over the sample's tokens, with
              the anchor's aligned at their ends, close to one-hot.
``cosine``    w = softmax(cos(v, v_psi) / blend_temperature)                              (table A.4)
``nearest``   the nearest anchor alone                                                    (table A.4)
``mean``      the plain mean of all offsets ever measured, kept as running means (``anchors.MeanOffset``), so that
              neither time nor memory grows with the number of anchors; it has no weights here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kvcomm_core.config import KVCommConfig
from kvcomm_core.criteria import Distances, Values

Weight = float | tuple[Tensor, ...]
"""The weight of one anchor: a number, or per layer group a tensor that broadcasts to ``[L, H, T, D]``."""


@dataclass(frozen=True, slots=True)
class Weights:
    """One weight per anchor, for the placeholder and for the text after it."""

    placeholder: list[Weight]
    text: list[Weight]


def weigh(values: Values, anchors: Sequence[Values], distances: Distances, config: KVCommConfig) -> Weights:
    """Return the weights of anchors at least as long as the sample, by ``config.estimator``. They sum to 1 over
    anchors."""
    if config.estimator == "upstream":
        return Weights(_upstream_placeholder(values, anchors), _upstream_text(values, anchors))
    if config.estimator == "l2_norm":
        weights_A = torch.softmax(-distances.relative() / config.blend_temperature, dim=0)
    elif config.estimator == "cosine":
        weights_A = torch.softmax(_cosines(values, anchors) / config.blend_temperature, dim=0)
    elif config.estimator == "nearest":
        weights_A = torch.zeros_like(distances.euclidean_A)
        weights_A[distances.euclidean_A.argmin()] = 1.0
    else:
        raise ValueError(f"estimator is {config.estimator!r}, which has no weights")
    weights: list[Weight] = list(weights_A.tolist())
    return Weights(weights, weights)


def _cosines(values: Values, anchors: Sequence[Values]) -> Tensor:
    """Return the cosine similarity of whole samples, ``[A]``; 0 for an empty one."""
    tokens = values[0].shape[2]
    cosines = []
    for anchor in anchors:
        dot = square = anchor_square = 0.0
        for v, a in zip(values, anchor, strict=True):
            v, a = v.float().flatten(), a[:, :, :tokens].to(v.device).float().flatten()
            dot += float(v @ a)
            square += float(v @ v)
            anchor_square += float(a @ a)
        cosines.append(dot / (square * anchor_square) ** 0.5 if square and anchor_square else 0.0)
    return torch.tensor(cosines, dtype=torch.float64)


def _upstream_placeholder(values: Values, anchors: Sequence[Values]) -> list[Weight]:
    """Return, per token, the softmax over anchors of minus the mean absolute difference over layers, heads and
    channels."""
    tokens = values[0].shape[2]
    elements = sum(v.shape[0] * v.shape[1] * v.shape[3] for v in values)
    differences_AT = torch.zeros(len(anchors), tokens)
    for index, anchor in enumerate(anchors):
        for v, a in zip(values, anchor, strict=True):
            differences_AT[index] += (v - a[:, :, :tokens].to(v.device)).float().abs().sum(dim=(0, 1, 3)).cpu()
    weights_AT = torch.softmax(-differences_AT / elements, dim=0)
    return [tuple(w_T[None, None, :, None].to(v.device) for v in values) for w_T in weights_AT]


def _upstream_text(values: Values, anchors: Sequence[Values]) -> list[Weight]:
    """Return, per layer, head and channel, the softmax over anchors of minus the L2 norm over tokens aligned at
    their ends."""
    tokens = values[0].shape[2]
    by_group: list[Tensor] = []
    for group, v in enumerate(values):
        tails = (anchor[group][:, :, anchor[group].shape[2] - tokens :].to(v.device) for anchor in anchors)
        norms_ALHD = torch.stack([torch.linalg.vector_norm((v - tail).float(), dim=2) for tail in tails])
        by_group.append(torch.softmax(-norms_ALHD, dim=0))
    return [tuple(w_ALHD[index][:, :, None] for w_ALHD in by_group) for index in range(len(anchors))]
