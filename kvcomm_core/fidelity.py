"""Compare a method's turn with dense prefill of the same prompt. This needs no labels, so it works at any model size.

*Next token*: the divergence between the distributions of the answer's first token. *Continuation*: dense prefill
decodes its own answer from the same prompt. The first tokens of that answer are run through the KV of both, and the
distributions are compared at each of them. So a method that errs early is judged on the same words as one that does
not. *Answer*: the two greedy answers are compared token by token. *KV*: keys, at their positions, and values are
compared layer by layer, separately for text and placeholders, as in figure A.12 of the paper.

The KV comparison covers the tokens after the leading text, without the prompt's last one. The leading text has the same
context in every request and is exact in every method, and every method really runs the last token, so either would
flatter a mean. Tokens that a method recomputes among reused ones count too: the answer is decoded from that KV, and
every method is measured on the same tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from kvcomm_core.batch import Batch
from kvcomm_core.decode import Answer, advance_with_states, to_logits
from kvcomm_core.kv import KV, KVBuffer, Part
from kvcomm_core.method import Plan
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import Prompt, Span, TokenIds
from kvcomm_core.turn import Turn

SegmentKind = Literal["text", "placeholder"]

CONTINUATION_TOKENS = 32
"""The most tokens of dense's answer at which distributions are compared."""


@dataclass(frozen=True, slots=True)
class NextTokenFidelity:
    """A method's next-token distribution compared with that of dense prefill."""

    kl: float
    """KL(dense || method) in nats, 0 or more."""
    top1_agree: bool
    """Whether both rank the same token first."""


@dataclass(frozen=True, slots=True)
class ContinuationFidelity:
    """A method's distributions over the beginning of dense's greedy answer, compared with dense's own.

    Position i holds the distribution of the answer's token i, given the prompt and the tokens before it, so position 0
    is that of the next token. The end-of-sequence token counts as a token of the answer.
    """

    kl: float
    """Mean over the positions of KL(dense || method) in nats, 0 or more."""
    top1_share: float
    """Share of the positions at which both rank the same token first, 0 to 1."""
    tokens: int
    """Positions compared, 1 to ``CONTINUATION_TOKENS``."""


@dataclass(frozen=True, slots=True)
class AnswerFidelity:
    """A method's greedy answer compared with that of dense prefill."""

    first_divergence: int | None
    """Index of the first token that differs or that only one answer has; None if the answers are equal."""
    agreement: float
    """Positions at which both have the same token, divided by the length of the longer answer; 1 if both are empty."""


@dataclass(frozen=True, slots=True)
class SegmentFidelity:
    """Keys or values of one layer, over all segments of one kind in one prompt."""

    layer: int
    """Layer index, from 0."""
    kind: SegmentKind
    part: Part
    cosine: float
    """Cosine similarity of a token's H x D numbers in the two caches, averaged over tokens."""
    l2_error: float
    """L2 norm of their difference, averaged over tokens."""
    tokens: int
    """Tokens compared, at least 1."""


@dataclass(frozen=True, slots=True)
class TurnFidelity:
    """All fidelity measures of one turn."""

    next_token: NextTokenFidelity
    continuation: ContinuationFidelity | None
    """None, like ``answer``, if the turn's answer was given instead of decoded."""
    answer: AnswerFidelity | None
    segments: tuple[SegmentFidelity, ...]
    """One entry per layer, kind and part; kinds without any token to compare are left out."""

    def mean_cosine(self, part: Part) -> float | None:
        """Return the mean over layers and compared tokens; None if no token was compared."""
        chosen = [segment for segment in self.segments if segment.part == part]
        tokens = sum(segment.tokens for segment in chosen)
        return sum(segment.cosine * segment.tokens for segment in chosen) / tokens if tokens else None


@torch.inference_mode()
def measure_fidelity(model: LoadedModel, turns: Sequence[Turn], *, max_new_tokens: int) -> list[TurnFidelity]:
    """Compare turns taken with ``keep_kv`` and ``max_new_tokens`` with dense turns, which this function takes as one
    batch.

    Raise ``ValueError`` for a turn without ``prompt_kv``.
    """
    if any(turn.prompt_kv is None for turn in turns):
        raise ValueError("prompt_kv is None; allowed: a turn taken with keep_kv")
    if not turns:
        return []
    prompts = [turn.prompt for turn in turns]
    buffer = KVBuffer(model.layout, rows=len(turns), capacity=max(map(len, prompts)) + max_new_tokens)
    batch = Batch(model, prompts, [Plan("dense")] * len(turns), buffer)
    dense_BV = batch.prefill()
    answers = batch.decode(dense_BV.argmax(dim=-1).tolist(), max_new_tokens) if any(map(_is_decoded, turns)) else []
    return [
        _measure(model, turn, batch.assembled_kv(index), dense_BV[index], answers[index] if _is_decoded(turn) else None)
        for index, turn in enumerate(turns)
    ]


def _is_decoded(turn: Turn) -> bool:
    return turn.stop_reason != "given"


def _measure(model: LoadedModel, turn: Turn, dense_kv: KV, dense_V: Tensor, dense: Answer | None) -> TurnFidelity:
    """Compare a turn with the KV of dense prefill, the logits after it and, unless it was given, dense's answer."""
    assert turn.prompt_kv is not None  # noqa: S101 - measure_fidelity asks for it
    segments = compare_kv(dense_kv, turn.prompt_kv, turn.prompt)
    next_token = compare_next_token(dense_V, turn.first_logits_V)
    if dense is None:
        return TurnFidelity(next_token, None, None, segments)
    dense_NV, method_NV = (forced_logits(model, turn.prompt, dense, kv) for kv in (dense_kv, turn.prompt_kv))
    continuation = compare_continuation(dense_NV, method_NV)
    return TurnFidelity(next_token, continuation, compare_answers(dense.token_ids, turn.answer_ids), segments)


def forced_logits(model: LoadedModel, prompt: Prompt, answer: Answer, kv: KV) -> Tensor:
    """Run the beginning of an answer on top of a prompt's KV. Return the logits at its first ``CONTINUATION_TOKENS``
    positions or fewer, ``[N, V]``, float32."""
    # The last prompt token comes first, because its output is the distribution of the answer's token 0. The answer's
    # last token is not run, since nothing of the answer follows it; an end-of-sequence token is not in ``token_ids``.
    seen = answer.token_ids if answer.stop_reason == "eos" else answer.token_ids[:-1]
    ids = (prompt.token_ids[-1], *seen)[:CONTINUATION_TOKENS]
    buffer = KVBuffer(model.layout, rows=1, capacity=len(kv) + len(ids))
    kv.copy_to(buffer.view(0, len(kv)))
    buffer.length = len(kv)
    return to_logits(model, advance_with_states(model, [ids], buffer)[0])


def compare_next_token(dense_V: Tensor, method_V: Tensor) -> NextTokenFidelity:
    """Compare two vectors of logits."""
    log_dense_V = torch.log_softmax(dense_V.double(), dim=-1)
    log_method_V = torch.log_softmax(method_V.double(), dim=-1)
    # Rounding can put a divergence of 0 slightly below 0.
    kl = float(torch.nn.functional.kl_div(log_method_V, log_dense_V, reduction="sum", log_target=True).clamp_min(0))
    return NextTokenFidelity(kl, bool(dense_V.argmax() == method_V.argmax()))


def compare_continuation(dense_NV: Tensor, method_NV: Tensor) -> ContinuationFidelity:
    """Compare N pairs of vectors of logits, N at least 1, one position at a time: float64 copies of all of them would
    take 8 N V bytes several times."""
    positions = [compare_next_token(dense_V, method_V) for dense_V, method_V in zip(dense_NV, method_NV, strict=True)]
    n = len(positions)
    return ContinuationFidelity(sum(one.kl for one in positions) / n, sum(one.top1_agree for one in positions) / n, n)


def compare_answers(dense: TokenIds, method: TokenIds) -> AnswerFidelity:
    """Compare two answers without their end-of-sequence tokens. An answer that ends differs from one that continues."""
    agree = [a == b for a, b in zip(dense, method, strict=False)]
    longer = max(len(dense), len(method))
    first = agree.index(False) if False in agree else len(agree)
    return AnswerFidelity(first if first < longer else None, sum(agree) / longer if longer else 1.0)


def compare_kv(dense: KV, method: KV, prompt: Prompt) -> tuple[SegmentFidelity, ...]:
    """Compare two caches of all the prompt's tokens but the last, by layer, kind of segment and part."""
    spans: dict[SegmentKind, tuple[Span, ...]] = {"text": prompt.texts[1:], "placeholder": prompt.holes}
    results = []
    for kind, compared in spans.items():
        tokens = [token for span in compared for token in range(span.start, min(span.stop, len(dense)))]
        if not tokens:
            continue
        for part in get_args(Part):
            layer = 0
            for dense_LHTD, method_LHTD in zip(getattr(dense, part), getattr(method, part), strict=True):
                # Compare one layer at a time: a float32 copy of all layers would be larger than the prompt's KV.
                for dense_HTD, method_HTD in zip(dense_LHTD, method_LHTD, strict=True):
                    a_TE, b_TE = (x[:, tokens].float().transpose(0, 1).flatten(1) for x in (dense_HTD, method_HTD))
                    cosine = float(torch.cosine_similarity(a_TE, b_TE).mean())
                    error = float(torch.linalg.vector_norm(a_TE - b_TE, dim=1).mean())
                    results.append(SegmentFidelity(layer, kind, part, cosine, error, len(tokens)))
                    layer += 1
    return tuple(results)
