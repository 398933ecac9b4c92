"""Take dense turns as references, and compare turns of a method on the same prompts with them.

This is :mod:`kvcomm_core.fidelity` without the comparison of keys and values, which takes the reference's KV. In return
a reference is small enough to be kept, so that many methods are compared with one dense turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kvcomm_core.batch import Batch
from kvcomm_core.decode import Answer
from kvcomm_core.fidelity import (
    TurnFidelity,
    compare_answers,
    compare_continuation,
    compare_next_token,
    forced_logits,
)
from kvcomm_core.kv import KVBuffer
from kvcomm_core.method import Plan
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import Prompt
from kvcomm_core.turn import Turn


@dataclass(frozen=True, slots=True)
class Reference:
    """A dense turn: its greedy answer, and the logits at the answer's first positions."""

    answer: Answer
    first_V: Tensor
    """Logits of the answer's first token, float32."""
    logits_NV: Tensor
    """Logits at the answer's first ``CONTINUATION_TOKENS`` positions or fewer, float32. The answer was run again in one
    pass, as :func:`compare_with_reference` runs it."""


@torch.inference_mode()
def take_references(model: LoadedModel, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Reference]:
    """Take dense turns on prompts, as one batch. Who shares it changes a reference by rounding at most."""
    if not prompts:
        return []
    buffer = KVBuffer(model.layout, rows=len(prompts), capacity=max(map(len, prompts)) + max_new_tokens)
    batch = Batch(model, prompts, [Plan("dense")] * len(prompts), buffer)
    first_BV = batch.prefill()
    answers = batch.decode(first_BV.argmax(dim=-1).tolist(), max_new_tokens)
    references = []
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        logits_NV = forced_logits(model, prompt, answer, batch.assembled_kv(row))
        references.append(Reference(answer, first_BV[row].clone(), logits_NV))
    return references


@torch.inference_mode()
def compare_with_reference(model: LoadedModel, turn: Turn, reference: Reference) -> TurnFidelity:
    """Compare a turn taken with ``keep_kv`` with the reference on its prompt. No segments are compared, and no answer
    that was given.

    Raise ``ValueError`` for a turn without ``prompt_kv``.
    """
    if turn.prompt_kv is None:
        raise ValueError("prompt_kv is None; allowed: a turn taken with keep_kv")
    method_NV = forced_logits(model, turn.prompt, reference.answer, turn.prompt_kv)
    is_given = turn.stop_reason == "given"
    return TurnFidelity(
        next_token=compare_next_token(reference.first_V, turn.first_logits_V),
        continuation=compare_continuation(reference.logits_NV, method_NV),
        answer=None if is_given else compare_answers(reference.answer.token_ids, turn.answer_ids),
        segments=(),
    )
