"""``contexts``: how far the context moves a token's keys and values (paper, figure 1).

A token's *offset* under a prefix is its KV after that prefix minus its base KV, which is its KV after the chat header
alone. Keys are first moved to the same position (``aligned``) or left where they were cached. All norms are over the
heads and channels of a layer and divided by the norm of the base, so that layers can be compared. Layer 0 sees no
context, so its aligned offset is 0 up to rounding.

Each token is paired with the token of the nearest embedding among all tokens of real prompts. The measures are

``offset``             norm of the token's offset over that of its base
``neighbor_offset``    the same for the nearest token
``offset_difference``  norm of the difference between the two tokens' offsets, over the mean norm of the two bases

with ``mean`` and ``sd`` (with n - 1) over the prefixes.
"""

import torch
from torch import Tensor

from harness.results.measurements import KVStatistic
from harness.trials.probes.probe_inputs import Sources
from harness.trials.probes.token_kv import TokenKV, token_kv
from harness.trials.trial_run import TrialRun
from harness.workloads.probes import ContextsSpec


def run_contexts(run: TrialRun) -> None:
    """Record the statistics of every token.

    Raise ``ValueError`` if the questions have fewer different tokens than requested.
    """
    spec, model, workload = run.spec, run.model, run.spec.workload
    assert isinstance(workload, ContextsSpec)  # noqa: S101 - whose runner this is
    sources = Sources(spec, workload, model)
    words, prefixes = sources.words(), sources.prefixes()
    if len(words) < workload.tokens:
        raise ValueError(f"workload.tokens is {workload.tokens}; allowed: 1 to {len(words)}, those of the questions")
    tokens = sources.rng("tokens").sample(words, workload.tokens)
    neighbors = _nearest(sources, tokens)
    ids = [*tokens, *neighbors]
    base = token_kv(model, sources.header, ids)
    contexts: list[TokenKV] = []
    for number, prefix in enumerate(prefixes, start=1):
        contexts.append(token_kv(model, prefix, ids))
        run.done(number, len(prefixes))

    for part, aligned in (("keys", True), ("keys", False), ("values", None)):
        base_LNE = _tensor(base, part, aligned)
        offsets_CLNE = torch.stack([_tensor(context, part, aligned) - base_LNE for context in contexts])
        for measure, values_CLN in measure_offsets(offsets_CLNE, base_LNE).items():
            own = neighbors if measure == "neighbor_offset" else tokens
            for statistic, values_LN in _over_contexts(values_CLN).items():
                run.kv_statistics += [
                    KVStatistic(
                        trial_id=spec.trial_id,
                        attempt=run.attempt,
                        probe="contexts",
                        measure=measure,
                        statistic=statistic,
                        value=value,
                        n=len(contexts),
                        part=part,  # type: ignore[arg-type]
                        layer=layer,
                        aligned=aligned,
                        token_index=index,
                        token_text=sources.text(own[index]),
                    )
                    for layer, by_token in enumerate(values_LN.tolist())
                    for index, value in enumerate(by_token)
                ]


def measure_offsets(offsets_CLNE: Tensor, base_LNE: Tensor) -> dict[str, Tensor]:
    """Return the measures, ``[C, L, N]`` each, from the offsets of N tokens followed by their N neighbors in C
    contexts."""
    n = base_LNE.shape[1] // 2
    norms_LN = base_LNE.norm(dim=-1)
    relative_CLN = offsets_CLNE.norm(dim=-1) / norms_LN
    difference_CLN = (offsets_CLNE[:, :, :n] - offsets_CLNE[:, :, n:]).norm(dim=-1)
    return {
        "offset": relative_CLN[..., :n],
        "neighbor_offset": relative_CLN[..., n:],
        "offset_difference": difference_CLN / ((norms_LN[:, :n] + norms_LN[:, n:]) / 2),
    }


def _over_contexts(values_CLN: Tensor) -> dict[str, Tensor]:
    return {"mean": values_CLN.mean(dim=0), "sd": values_CLN.std(dim=0)}


def _tensor(kv: TokenKV, part: str, aligned: bool | None) -> Tensor:
    if part == "values":
        return kv.values_LNE
    return kv.keys_LNE if aligned else kv.placed_keys_LNE


def _nearest(sources: Sources, tokens: list[int]) -> list[int]:
    """Return, for each token, the other token with the nearest embedding among those of real prompts."""
    vocabulary = sorted({*sources.vocabulary(), *tokens})
    distances_NV = torch.cdist(sources.embeddings(tokens), sources.embeddings(vocabulary))
    for row, token in enumerate(tokens):
        distances_NV[row, vocabulary.index(token)] = torch.inf
    return [vocabulary[index] for index in distances_NV.argmin(dim=1).tolist()]
