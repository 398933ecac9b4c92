"""``proximity``: does the context move tokens with similar embeddings alike (paper, figure 4)?

The probe samples different tokens from real prompts and draws pairs of them by the Euclidean distance of their
embeddings. ``near`` pairs come from the closest pairs, ``mid`` from those around the median and ``far`` from the most
distant, each from 1 % of all pairs or as many as requested. The ``random`` pairs, as many as the three bins together,
ignore the distance. The measures, by layer, with keys at the same position and norms over heads and channels, are

``distance``         ||kv(a) - kv(b)|| after one prefix, over the mean norm of the tokens' kv
``offset_distance``  ||d(a) - d(b)||, d being the token's kv after a second prefix minus that after the first, over
                     the mean norm of the tokens' d. Layer 0 has no offset: its values are None.

with ``mean`` and ``sd`` over the pairs of a bin, and ``spearman``, the rank correlation with the distance of the
embeddings. It is computed over near, mid and far together (``bin`` None), as in the paper, and over the random pairs.
The paper's correlation is the larger of the two, since its pairs come from the ends of the scale.
``embedding_distance`` holds the distances themselves.
"""

import random

import torch
from torch import Tensor

from harness.results.measurements import KVStatistic
from harness.spec import TrialSpec
from harness.trials.probes.probe_inputs import Sources
from harness.trials.probes.token_kv import token_kv
from harness.trials.trial_run import TrialRun
from harness.workloads.probes import BINS, ProximitySpec

Pairs = Tensor
"""``[P, 2]``, indices of tokens."""

_SHARE = 0.01


def run_proximity(run: TrialRun) -> None:
    """Record the statistics by bin and layer."""
    spec, model, workload = run.spec, run.model, run.spec.workload
    assert isinstance(workload, ProximitySpec)  # noqa: S101 - whose runner this is
    sources = Sources(spec, workload, model)
    vocabulary = sources.vocabulary()
    sampled = sources.rng("tokens").sample(vocabulary, min(workload.tokens, len(vocabulary)))
    drawn = draw_pairs(sources.embeddings(sampled), workload.pairs, sources.rng("pairs"))
    used, flat = torch.cat([pairs for pairs, _ in drawn.values()]).unique(return_inverse=True)
    ids = [sampled[index] for index in used.tolist()]
    where = dict(zip(drawn, flat.split([len(pairs) for pairs, _ in drawn.values()]), strict=True))
    contexts = []
    for number, prefix in enumerate(sources.prefixes()[:2], start=1):
        contexts.append(token_kv(model, prefix, ids))
        run.done(number, 2)

    first, second = contexts
    found = _Statistics(spec, run.attempt)
    for bin_, (_, distances_P) in drawn.items():
        found.add_moments(distances_P, "embedding_distance", bin=bin_)
    for part, one_LNE, other_LNE in (
        ("keys", first.keys_LNE, second.keys_LNE),
        ("values", first.values_LNE, second.values_LNE),
    ):
        for measure, vectors_LNE in (("distance", one_LNE), ("offset_distance", other_LNE - one_LNE)):
            relative = {bin_: pair_distances(vectors_LNE, pairs) for bin_, pairs in where.items()}
            for layer in range(len(one_LNE)):
                defined = measure == "distance" or layer > 0
                for bin_, values_LP in relative.items():
                    found.add_moments(values_LP[layer], measure, bin=bin_, part=part, layer=layer, defined=defined)
                for together, bins in ((None, BINS), ("random", ("random",))):
                    ours = torch.cat([relative[name][layer] for name in bins])
                    theirs = torch.cat([drawn[name][1] for name in bins])
                    value = spearman(ours, theirs) if defined else None
                    found.add("spearman", value, len(ours), measure, bin=together, part=part, layer=layer)
    run.kv_statistics += found.rows


class _Statistics:
    """Rows of one trial, in the order in which they are recorded."""

    def __init__(self, spec: TrialSpec, attempt: int) -> None:
        self._spec, self._attempt = spec, attempt
        self.rows: list[KVStatistic] = []

    def add(
        self,
        statistic: str,
        value: float | None,
        n: int,
        measure: str,
        *,
        bin: str | None,
        part: str | None = None,
        layer: int | None = None,
    ) -> None:
        self.rows.append(
            KVStatistic(
                trial_id=self._spec.trial_id,
                attempt=self._attempt,
                probe="proximity",
                measure=measure,
                statistic=statistic,
                value=value,
                n=n,
                part=part,  # type: ignore[arg-type]
                layer=layer,
                bin=bin,  # type: ignore[arg-type]
                aligned=True if part == "keys" else None,
            )
        )

    def add_moments(
        self,
        values_P: Tensor,
        measure: str,
        *,
        bin: str,
        part: str | None = None,
        layer: int | None = None,
        defined: bool = True,
    ) -> None:
        for statistic, value in (("mean", values_P.mean()), ("sd", values_P.std())):
            known = float(value) if defined else None
            self.add(statistic, known, len(values_P), measure, bin=bin, part=part, layer=layer)


def pair_distances(vectors_LNE: Tensor, pairs: Pairs) -> Tensor:
    """Return ``[P]`` distances per layer, ``[L, P]``: each pair's over the mean norm of all N vectors of the layer."""
    scale_L1 = vectors_LNE.norm(dim=-1).mean(dim=1, keepdim=True)
    distances_LP = (vectors_LNE[:, pairs[:, 0]] - vectors_LNE[:, pairs[:, 1]]).norm(dim=-1)
    relative_LP: Tensor = (distances_LP / scale_L1).double()
    return relative_LP


def draw_pairs(embeddings_NE: Tensor, pairs: int, rng: random.Random) -> dict[str, tuple[Pairs, Tensor]]:
    """Draw, by bin, pairs of different tokens, none twice in a bin, and return them with the distances of their
    embeddings ``[P]``.

    Raise ``ValueError`` if there are too few tokens for bins that do not overlap.
    """
    n = len(embeddings_NE)
    first_A, second_A = torch.triu_indices(n, n, offset=1)
    # Avoid the matrix product, whose rounding errors are as large as small distances.
    distances_NN = torch.cdist(embeddings_NE, embeddings_NE, compute_mode="donot_use_mm_for_euclid_dist")
    distances_A = distances_NN[first_A, second_A].double()
    wanted = pairs // len(BINS)
    band = max(wanted, int(_SHARE * len(distances_A)))
    if len(BINS) * band > len(distances_A):
        raise ValueError(f"workload.pairs is {pairs}; allowed: at most {len(distances_A)}, the pairs of {n} tokens")
    order_A = distances_A.argsort(stable=True)
    middle = (len(order_A) - band) // 2
    places = {"near": range(band), "mid": range(middle, middle + band), "far": range(len(order_A) - band, len(order_A))}
    drawn = {}
    for bin_ in (*BINS, "random"):
        among = places.get(bin_, range(len(order_A)))
        chosen = order_A[torch.tensor(rng.sample(among, pairs if bin_ == "random" else wanted))]
        drawn[bin_] = (torch.stack([first_A[chosen], second_A[chosen]], dim=1), distances_A[chosen])
    return drawn


def spearman(a: Tensor, b: Tensor) -> float | None:
    """Return the rank correlation of ``[P]`` and ``[P]``, equal values at their mean rank; None if either is
    constant."""
    ranks = torch.stack([_ranks(a), _ranks(b)])
    if bool((ranks.std(dim=1) == 0).any()):
        return None
    return float(torch.corrcoef(ranks)[0, 1])


def _ranks(values: Tensor) -> Tensor:
    _, where, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    ranks: Tensor = (last - (counts - 1) / 2)[where]
    return ranks
