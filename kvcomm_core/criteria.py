"""Decide whether a new sample of a placeholder is shareable or must become an anchor (paper Eq. 5).

Every criterion first counts its candidates A: the anchors at least as long as the sample (for ``always``: all anchors).
With fewer than ``fewest_candidates`` of them the sample becomes a new anchor. The paper's first condition, a sample
longer than every anchor, is the case of no candidates. Otherwise:

``entropy_literal``   shareable if H(softmax(-||h - h_psi||)) <= gamma log |A|, h the token embeddings: Eq. 5 as printed
``entropy_fitted``    shareable if H(softmax(-d / match_temperature)) <= gamma log |A|: our normalisation of Eq. 5, with
                      a temperature fitted to the shape of table 6
``entropy_upstream``  shareable if H(softmax(-D)) <= gamma log |A|, as the public code computes it
``length``            shareable                                                          (table A.3, "length only")
``always``            shareable, whatever its length; but with an estimator that needs an anchor at least as long
                      (all but ``mean``), a longer sample still becomes an anchor

All but ``entropy_literal`` compare the base values of a sample and an anchor over all layers, heads, channels and the
sample's T tokens, by the Euclidean distance D(psi) = ||v - v_psi[:T]|| or the *relative* distance d(psi) = D(psi) /
||v||.

Section 3.3 of the paper prints w = softmax(-||h_phi - h_psi||) and H = sum w log w, over the anchors longer than the
sample. It leaves several points open. ``entropy_literal`` settles them so:

- h, which Eq. 5 does not define, is the embedding. Section 3.2 writes h^l for the input of layer l and calls h^1 the
  embedding; the words around Eq. 5 are "embedding-distance-based weights" and "the embedding space". (Appendix 6.4.4
  and the public code measure keys and values instead; that is ``entropy_upstream``.)
- The distance of two samples is that of their first T embeddings, one beside the other: token t is compared with token
  t, as in the propositions and in the public code.
- H needs its minus sign: the text calls it an entropy, and without the sign the test would refuse nothing.
- An anchor of exactly the sample's length counts. The first condition does not exclude it, and it is long enough.
- No minimum of anchors is asked for, so one is enough: then H = log 1 = 0, and every sample passes.

The scale of the distances decides everything. We measured the share of samples that pass at gamma 0.1 / 0.3 / 0.5 / 0.7
among the first 60 GSM8K test questions on SmolLM2-135M, with the first 20 as anchors, on the 39 others for which two
anchors are long enough. ``entropy_upstream``: 79 / 92 / 100 / 100 %, because D is in the hundreds and w is one-hot.
``entropy_literal``: 0 / 0 / 0 / 3 %, because distances of about 30 differ by 2 and w is nearly uniform (38 % pass at
gamma 0.9). d depends neither on the model nor on the length. But for unrelated samples its values lie so close together
(1.29 with a spread of 0.02) that gamma only has a meaning with a temperature. We chose 0.005, with which
``entropy_fitted`` accepts 46 / 74 / 92 / 100 %, where the paper's table 6 reports reuse of 34 / 73 / 95 / 98 % of
turns. So its likeness to table 6 is partly by construction.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kvcomm_core.config import KVCommConfig
from kvcomm_core.pools.base_values import BaseValues, Values, squared_distances
from kvcomm_core.template import TokenIds


@dataclass(frozen=True, slots=True)
class Distances:
    """Euclidean distances D of a sample to each candidate ``[A]`` float64, and the sample's own norm."""

    euclidean_A: Tensor
    norm: float

    def relative(self) -> Tensor:
        """Return d = D / ||v||, ``[A]``; 0 for an empty sample."""
        return self.euclidean_A / self.norm if self.norm else self.euclidean_A


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement on a sample, with the scores that led to it."""

    shareable: bool
    entropy_ratio: float | None
    """H(w) / log |A|, 0 to 1, shareable up to gamma; None without an entropy: for other criteria, and with one
    candidate."""
    nearest_distance: float | None
    """Relative distance d of the nearest candidate, whichever distance the criterion tests; None where base values are
    not compared."""


def measure_distances(values: Values, anchors: Sequence[BaseValues]) -> Distances:
    """Measure the distances of a sample to anchors at least as long. Only the first T tokens of each anchor count."""
    squares_A, square = squared_distances(values, anchors)
    return Distances(squares_A.sqrt(), math.sqrt(square))


def measure_embeddings(token_ids: TokenIds, anchors: Sequence[TokenIds], embeddings_VE: Tensor) -> Tensor:
    """Return ||h - h_psi||, ``[A]`` float64 on the CPU, for anchors at least as long as the sample: the distance of its
    T token embeddings to the first T of each anchor. ``embeddings_VE`` holds one embedding per token id."""

    def embed(ids: TokenIds) -> Tensor:
        return embeddings_VE[torch.tensor(ids, dtype=torch.long, device=embeddings_VE.device)].float()

    h_TE, distances = embed(token_ids), []
    for anchor in anchors:
        norms_T = torch.linalg.vector_norm(h_TE - embed(anchor[: len(token_ids)]), dim=1)
        distances.append(torch.linalg.vector_norm(norms_T, dtype=torch.float64))
    return torch.stack(distances).cpu()


def entropy(weights_A: Tensor) -> float:
    """Return the Shannon entropy of weights that sum to 1, in nats; 0 log 0 = 0."""
    return float(torch.special.entr(weights_A).sum())


def judge(config: KVCommConfig, distances: Distances | None, embeddings_A: Tensor | None = None) -> Verdict:
    """Test the second condition on the candidates, of which there are at least ``fewest_candidates``.

    ``distances`` are those of base values, None where the config compares none. ``embeddings_A`` are those of
    :func:`measure_embeddings`, which ``entropy_literal`` needs and no other criterion reads. Raise ``ValueError`` if
    what the criterion needs is missing.
    """
    nearest = None if distances is None else float(distances.relative().min())
    if config.criterion == "length" or config.takes_any_sample:
        return Verdict(True, None, nearest)
    if config.criterion == "entropy_literal":
        tested_A = embeddings_A
    elif distances is None:
        tested_A = None
    elif config.criterion == "entropy_upstream":
        tested_A = distances.euclidean_A
    else:
        tested_A = distances.relative() / config.match_temperature
    if tested_A is None:
        raise ValueError(f"criterion is {config.criterion!r}, whose distances were not measured")
    h, most = entropy(torch.softmax(-tested_A, dim=0)), math.log(len(tested_A))
    # Uniform weights at gamma = 1 must pass in spite of rounding.
    return Verdict(h <= config.gamma * most + 1e-9, min(1.0, h / most) if most else None, nearest)
