"""Weights of anchors: how much each anchor's offset counts in an estimate.

An estimate is a weighted sum over the matched anchors, ``sum_psi w_psi * offset_psi``, for a placeholder (Eq. 6) and
for the text segment after it (Eq. 7). Let v be the sample's base values and d the relative distances of ``criteria``:

``l2_norm``   w = softmax(-d / blend_temperature) over anchors, for both. The paper uses one w for the test and for
              blending. We give blending a temperature of its own, since weights sharp enough for the entropy test
              are close to one-hot, and a single anchor is a poor estimate.
``upstream``  the public code's weightings. Keys are weighted by distances of base keys, values by distances of base
              values. Let x be either. For the placeholder w[t] = softmax(-mean_{l,h,c} |x - x_psi|) at each token t,
              close to uniform; for the text w[l,h,c] = softmax(-||x - x_psi||) over the sample's tokens, with the
              anchor's aligned at their ends, close to one-hot.
``cosine``    w = softmax(cos(v, v_psi) / blend_temperature)                              (table A.4)
``nearest``   the nearest anchor alone                                                    (table A.4)
``mean``      the plain mean of all offsets ever measured, kept as running means (``pools/running_means.py``), so that
              neither time nor memory grows with the number of anchors; it has no weights here.
``affine``    a ridge regression of all offsets ever measured on their base KV, kept as running sums
              (``pools/affine_maps.py``); ours, not the paper's.

``upstream`` departs from the public code in one point. That code compares keys where they stand: the sample's rotated
to its place in this prompt, an anchor's as rotated in the prompt in which it was stored. Where the two places differ,
the distance is mostly that of the rotations. We compare keys at local positions 0..T-1, as we store them; the paper,
too, removes the rotation before it compares (section 3.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kvcomm_core.config import KVCommConfig
from kvcomm_core.criteria import Distances
from kvcomm_core.kv import KV, Part
from kvcomm_core.pools.anchors import Anchor
from kvcomm_core.pools.base_values import Values, cosines


@dataclass(frozen=True, slots=True)
class ElementWeights:
    """The weight of one anchor where it differs from element to element, and between keys and values."""

    keys: tuple[Tensor, ...]
    """Per layer group a float32 tensor that broadcasts to ``[L, H, T, D]``."""
    values: tuple[Tensor, ...]

    def of(self, part: Part, group: int) -> Tensor:
        """Return the weights of the keys or the values of one layer group."""
        return (self.keys if part == "keys" else self.values)[group]


Weight = float | ElementWeights
"""The weight of one anchor."""


@dataclass(frozen=True, slots=True)
class Weights:
    """One weight per anchor, for the placeholder and for the text after it."""

    placeholder: list[Weight]
    text: list[Weight]


def weigh(base: KV, anchors: Sequence[Anchor], distances: Distances, config: KVCommConfig) -> Weights:
    """Return the weights of anchors at least as long as the sample with base KV ``base``, by ``config.estimator``.
    They sum to 1 over anchors."""
    if config.estimator == "upstream":
        values = [anchor.base_values.groups for anchor in anchors]
        keys = [anchor.base_keys for anchor in anchors]
        return Weights(
            _by_element(_token_weights(base.keys, keys), _token_weights(base.values, values)),
            _by_element(_channel_weights(base.keys, keys), _channel_weights(base.values, values)),
        )
    if config.estimator == "l2_norm":
        weights_A = torch.softmax(-distances.relative() / config.blend_temperature, dim=0)
    elif config.estimator == "cosine":
        weights_A = torch.softmax(
            cosines(base.values, [anchor.base_values for anchor in anchors]) / config.blend_temperature, dim=0
        )
    elif config.estimator == "nearest":
        weights_A = torch.zeros_like(distances.euclidean_A)
        weights_A[distances.euclidean_A.argmin()] = 1.0
    else:
        raise ValueError(f"estimator is {config.estimator!r}, which has no weights")
    weights: list[Weight] = list(weights_A.tolist())
    return Weights(weights, weights)


def _by_element(keys: list[tuple[Tensor, ...]], values: list[tuple[Tensor, ...]]) -> list[Weight]:
    return [ElementWeights(of_keys, of_values) for of_keys, of_values in zip(keys, values, strict=True)]


def _token_weights(base: Values, anchors: Sequence[Values]) -> list[tuple[Tensor, ...]]:
    """Return, per token, the softmax over anchors of minus the mean absolute difference over layers, heads and
    channels: ``[1, 1, T, 1]`` per anchor and layer group."""
    tokens, first = base[0].shape[2], base[0].device
    elements = sum(x.shape[0] * x.shape[1] * x.shape[3] for x in base)
    differences_AT = torch.zeros(len(anchors), tokens, device=first)
    for index, anchor in enumerate(anchors):
        for x, a in zip(base, anchor, strict=True):
            differences_AT[index] += _difference(x, a[:, :, :tokens]).abs_().sum(dim=(0, 1, 3)).to(first)
    weights_AT = torch.softmax(-differences_AT / elements, dim=0)
    return [tuple(w_T[None, None, :, None].to(x.device) for x in base) for w_T in weights_AT]


def _channel_weights(base: Values, anchors: Sequence[Values]) -> list[tuple[Tensor, ...]]:
    """Return, per layer, head and channel, the softmax over anchors of minus the L2 norm over tokens aligned at their
    ends: ``[L, H, 1, D]`` per anchor and layer group."""
    tokens = base[0].shape[2]
    by_group: list[Tensor] = []
    for group, x in enumerate(base):
        tails = (anchor[group][:, :, anchor[group].shape[2] - tokens :] for anchor in anchors)
        norms_ALHD = torch.stack([torch.linalg.vector_norm(_difference(x, tail), dim=2) for tail in tails])
        by_group.append(torch.softmax(-norms_ALHD, dim=0))
    return [tuple(w_ALHD[index][:, :, None] for w_ALHD in by_group) for index in range(len(anchors))]


def _difference(x: Tensor, anchor: Tensor) -> Tensor:
    """Return a new float32 tensor ``x - anchor``. Both are widened first: a difference in bfloat16 is rounded."""
    return x.float() - anchor.to(x.device).float()
