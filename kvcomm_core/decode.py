"""Forward passes on a KVBuffer, and greedy decoding from it, for a batch of rows.

Rows are left-aligned: a row's tokens stand in slots 0, 1, 2, ... of the buffer, whatever the others do. Where rows
of different lengths go on together they write to the same slots, and the gap between a shorter row's end and those
slots is masked; a token's position is counted within its row, never by its slot.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from kvcomm_core.kv import KVBuffer
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import TokenIds

StopReason = Literal["eos", "length", "given"]
"""At the end-of-sequence token; at the limit; or not decoded at all."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What greedy decoding produced: token ids without the end-of-sequence token, and why it stopped."""

    token_ids: TokenIds
    stop_reason: StopReason


@torch.inference_mode()
def advance(
    model: LoadedModel,
    rows: Sequence[TokenIds],
    buffer: KVBuffer,
    *,
    positions: Sequence[int] | None = None,
    visible_BC: Tensor | None = None,
) -> Tensor:
    """Run each row's tokens, at least one, after what ``buffer`` holds, appending their KV.

    Shorter rows are padded at their end, where causal attention keeps the padding from every real token; its KV is
    left in the buffer to be masked or overwritten. ``positions``: of each row's first token, by default
    ``buffer.length``. ``visible_BC``: which slots hold tokens of the row, for rows of one token; by default all that
    are filled. Returns the decoder's last hidden state of each row's last token, ``[B, hidden size]``.
    """
    longest = max(map(len, rows))
    ids_BT = torch.tensor([[*row, *[row[-1]] * (longest - len(row))] for row in rows], device=model.device)
    starts = positions if positions is not None else [buffer.length] * len(rows)
    positions_BT = torch.tensor(starts, device=model.device)[:, None] + torch.arange(longest, device=model.device)
    mask_BHTC = None
    if visible_BC is not None:
        if longest != 1:
            raise ValueError(f"rows of {longest} tokens with masked slots; allowed: 1 token")
        mask_BHTC = visible_BC[:, None, None, : buffer.length + 1]
    output = model.network.model(
        input_ids=ids_BT,
        position_ids=positions_BT,
        attention_mask=mask_BHTC,
        past_key_values=buffer.cache,
        use_cache=True,
    )
    hidden_BTE: Tensor = output.last_hidden_state
    last_B = torch.tensor([len(row) - 1 for row in rows], device=hidden_BTE.device)
    return hidden_BTE[torch.arange(len(rows), device=hidden_BTE.device), last_B]


@torch.inference_mode()
def to_logits(model: LoadedModel, hidden_BE: Tensor) -> Tensor:
    """Next-token logits ``[B, vocabulary]``, float32. Only last positions come here, as in any serving engine."""
    head = model.network.lm_head
    if hidden_BE.device.type == "cpu" and head.bias is None:
        # The same product with the weights on the left: for a few rows MKL takes half as long over it.
        return torch.mm(head.weight, hidden_BE.T).T.float()
    logits_BV: Tensor = head(hidden_BE).float()
    return logits_BV


@torch.inference_mode()
def decode_greedily(
    model: LoadedModel,
    first_ids: Sequence[int],
    buffer: KVBuffer,
    *,
    positions: Sequence[int],
    visible_BC: Tensor | None,
    max_new_tokens: int,
    eos_ids: Collection[int],
) -> list[Answer]:
    """Continue each row greedily from its first id, the token chosen after what ``buffer`` holds.

    ``positions``: of those first tokens. ``visible_BC``: which slots of ``buffer`` each row may attend to, the ones
    to come included; None: all. A row ends at an end-of-sequence token or after ``max_new_tokens`` tokens. Row b's
    answer stands in slots ``buffer.length`` (as it was on entry) and on; the KV of its last token is missing if it
    was the ``max_new_tokens``-th: nothing needed its logits.
    """
    ids = list(first_ids)
    answers: list[list[int]] = [[] for _ in ids]
    ended = [False] * len(ids)
    for step in range(max_new_tokens):
        for row, token_id in enumerate(ids):
            ended[row] = ended[row] or token_id in eos_ids
            if not ended[row]:
                answers[row].append(token_id)
        if all(ended) or step == max_new_tokens - 1:
            break
        # Rows that have ended go on, masked from nobody and read by nobody, until the last one ends.
        hidden_BE = advance(
            model, [(i,) for i in ids], buffer, positions=[p + step for p in positions], visible_BC=visible_BC
        )
        ids = to_logits(model, hidden_BE).argmax(dim=-1).tolist()
    return [
        Answer(tuple(answer), "eos" if stopped else "length") for answer, stopped in zip(answers, ended, strict=True)
    ]
