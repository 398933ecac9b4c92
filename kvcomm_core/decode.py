"""Forward passes on a KVBuffer, and greedy decoding from it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from kvcomm_core.kv import KVBuffer
from kvcomm_core.model import LoadedModel

StopReason = Literal["eos", "length"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What greedy decoding produced: token ids without the end-of-sequence token, and why it stopped."""

    token_ids: tuple[int, ...]
    stop_reason: StopReason


@torch.inference_mode()
def advance(model: LoadedModel, token_ids: Sequence[int], buffer: KVBuffer) -> Tensor:
    """Run ``token_ids``, at least one, after what ``buffer`` holds (one row), appending their KV.

    Returns the decoder's last hidden states, ``[T, hidden size]``.
    """
    start = buffer.length
    ids_BT = torch.tensor([token_ids], device=model.device)
    positions_BT = torch.arange(start, start + len(token_ids), device=model.device)[None]
    output = model.network.model(
        input_ids=ids_BT, position_ids=positions_BT, past_key_values=buffer.cache, use_cache=True
    )
    hidden_BTE: Tensor = output.last_hidden_state
    return hidden_BTE[0]


@torch.inference_mode()
def next_logits(model: LoadedModel, token_ids: Sequence[int], buffer: KVBuffer) -> Tensor:
    """``advance``, then the logits ``[vocabulary]`` of the token that follows, in float32.

    Only the last position goes through the output head, as in any serving engine.
    """
    hidden_TE = advance(model, token_ids, buffer)
    logits_V: Tensor = model.network.lm_head(hidden_TE[-1]).float()
    return logits_V


@torch.inference_mode()
def decode_greedily(
    model: LoadedModel, first_id: int, buffer: KVBuffer, *, max_new_tokens: int, eos_ids: Collection[int]
) -> Answer:
    """Continue greedily from ``first_id``, the token chosen after what ``buffer`` holds.

    Ends at an end-of-sequence token or after ``max_new_tokens`` tokens. ``buffer`` then holds the KV of every
    returned token, save the last one if decoding stopped by length: nothing needed its logits.
    """
    token_ids: list[int] = []
    next_id = first_id
    while next_id not in eos_ids:
        token_ids.append(next_id)
        if len(token_ids) == max_new_tokens:
            return Answer(tuple(token_ids), "length")
        next_id = int(next_logits(model, [next_id], buffer).argmax())
    return Answer(tuple(token_ids), "eos")
