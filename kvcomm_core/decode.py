"""Forward passes on a KVBuffer, and greedy decoding from it, for a batch of rows.

Rows are left-aligned: a row's tokens stand in slots 0, 1, 2, ... of the buffer, whatever the other rows hold. Where
rows of different lengths continue together, they write to the same slots, and a mask hides the gap between a shorter
row's end and those slots. A token's position counts within its row, never by its slot.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from kvcomm_core.devices.transfers import send, to_device
from kvcomm_core.gpu.captured_steps import steps_of
from kvcomm_core.kv import KVBuffer
from kvcomm_core.masks import Masks, for_decoder, masks_of, masks_of_one_token
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import TokenIds

StopReason = Literal["eos", "length", "given"]
"""Decoding stopped at the end-of-sequence token or at the limit, or the answer was given instead of decoded."""

_MOST_TOGETHER = 2048
"""Tokens up to which rows of several tokens run in one pass, whose memory grows with them."""

_CHUNK = 512
"""Tokens that run at once after others. Attention from an empty cache is causal without a mask; behind a prefix it
takes a mask, and computes what that hides, too. In chunks, little is hidden. On two cores with AVX-512, the last 3,092
of 3,604 tokens of the embedded model took 7.0 s at once, 5.0 in chunks of 1,024, 4.8 of 512 and 5.4 of 128; all of them
from an empty cache took 5.0."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of greedy decoding: token ids without the end-of-sequence token, and why decoding stopped."""

    token_ids: TokenIds
    stop_reason: StopReason


@torch.inference_mode()
def advance(
    model: LoadedModel, rows: Sequence[TokenIds], buffer: KVBuffer, *, positions: Sequence[int] | None = None
) -> Tensor:
    """Run each row's tokens, at least one, after what ``buffer`` holds, and append their KV.

    Shorter rows are padded at their end, where causal attention hides the padding from every real token. The padding's
    KV stays in the buffer, to be masked or overwritten. ``positions`` holds the position of each row's first token; the
    default is ``buffer.length``. Return the decoder's last hidden state of each row's last token, ``[B, hidden size]``.
    """
    if max(map(len, rows)) == 1:
        slots = [buffer.length] * len(rows)
        hidden_BE = advance_one(model, [ids[0] for ids in rows], buffer, slots=slots, positions=positions or slots)
        buffer.length += 1
        return hidden_BE
    hidden_BTE = advance_with_states(model, rows, buffer, positions=positions)
    last_B = to_device([len(row) - 1 for row in rows], hidden_BTE.device)
    return hidden_BTE[torch.arange(len(rows), device=hidden_BTE.device), last_B]


@torch.inference_mode()
def advance_with_states(
    model: LoadedModel, rows: Sequence[TokenIds], buffer: KVBuffer, *, positions: Sequence[int] | None = None
) -> Tensor:
    """Do what :func:`advance` does, but return the decoder's last hidden states of all tokens of the rows, ``[B, T,
    hidden size]``, T being the length of the longest row. The states of padding mean nothing."""
    longest = max(map(len, rows))
    ids_BT = to_device([[*row, *[row[-1]] * (longest - len(row))] for row in rows], model.device)
    starts = positions if positions is not None else [buffer.length] * len(rows)
    positions_BT = to_device(starts, model.device)[:, None] + torch.arange(longest, device=model.device)
    size = _CHUNK if buffer.length else longest
    chunks = zip(ids_BT.split(size, dim=1), positions_BT.split(size, dim=1), strict=True)
    return torch.cat([_run_chunk(model, ids, positions, buffer) for ids, positions in chunks], dim=1)


def _run_chunk(model: LoadedModel, ids_BT: Tensor, positions_BT: Tensor, buffer: KVBuffer) -> Tensor:
    output = model.network.model(
        input_ids=ids_BT, position_ids=positions_BT, past_key_values=buffer.cache, use_cache=True
    )
    hidden_BTE: Tensor = output.last_hidden_state
    return hidden_BTE


@torch.inference_mode()
def advance_one(
    model: LoadedModel,
    ids: Sequence[int],
    buffer: KVBuffer,
    *,
    slots: Sequence[int],
    positions: Sequence[int],
    visible_BC: Tensor | None = None,
) -> Tensor:
    """Run one token per row: row b's token stands at ``positions[b]``, and its KV goes to slot ``slots[b]``.

    ``visible_BC`` says which slots hold tokens of the row, its own slot among them; the default is all up to that slot.
    ``buffer.length`` stays as it is. Return the decoder's last hidden states ``[B, hidden size]``.

    The model's :class:`~kvcomm_core.fused.step.DecodeStep` runs the token if the model has one, and transformers' own
    layers if not, or if somebody watches its modules through hooks.
    """
    ids_B, positions_B = to_device(ids, model.device), to_device(positions, model.device)
    width = max(slots) + 1
    masks = None
    windows = model.window is not None and width > model.window
    if visible_BC is not None or windows or min(slots) + 1 < width:
        up_to_own_BC = torch.arange(width) <= torch.tensor(slots)[:, None]
        visible_BC = send(up_to_own_BC, model.device) if visible_BC is None else visible_BC[:, :width]
        masks = masks_of_one_token(model, visible_BC, positions_B[:, None])
    if model.step is not None and not model.step.is_watched:
        return model.step(ids_B, buffer, slots, positions_B, masks)
    with buffer.writing_at(slots):
        output = model.network.model(
            input_ids=ids_B[:, None],
            position_ids=positions_B[:, None],
            attention_mask=None if masks is None else for_decoder(masks),
            past_key_values=buffer.cache,
            use_cache=True,
        )
    hidden_BE: Tensor = output.last_hidden_state[:, 0]
    return hidden_BE


@torch.inference_mode()
def advance_rows(model: LoadedModel, rows: Sequence[TokenIds], buffer: KVBuffer, *, starts: Sequence[int]) -> Tensor:
    """Run each row's tokens, at least one, at slots and positions from ``starts[b]`` on, which is the number of tokens
    that the row holds. ``buffer.length`` means nothing here. Return the decoder's last hidden state of each row's last
    token, ``[B, hidden size]``.

    All run in one pass, so that a row of one token costs little beside one of many. Where the model has no
    :class:`~kvcomm_core.fused.step.DecodeStep`, or there are too many tokens, each row first runs all but its last
    token alone. A single row runs as :func:`advance` runs it.
    """
    ends = [start + len(row) for start, row in zip(starts, rows, strict=True)]
    step = None if model.step is None or model.step.is_watched else model.step
    several = [index for index, row in enumerate(rows) if len(row) > 1]
    if len(rows) == 1 and several:
        alone = buffer.row(0)
        alone.length = starts[0]
        return advance(model, rows, alone)
    if several and (step is None or sum(map(len, rows)) > _MOST_TOGETHER):
        for index in several:
            alone = buffer.row(index)
            alone.length = starts[index]
            advance(model, [rows[index][:-1]], alone)
        several = []
    last = [end - 1 for end in ends]
    if not several or step is None:
        return advance_one(model, [row[-1] for row in rows], buffer, slots=last, positions=last)
    visible_BC = torch.arange(max(ends)) < torch.tensor(ends)[:, None]
    last_masks = masks_of_one_token(
        model, visible_BC.to(model.device), torch.tensor(last, device=model.device)[:, None]
    )
    own_masks = [_own_masks(model, start, end) for start, end in zip(starts, ends, strict=True)]
    ids_N = torch.tensor([token_id for row in rows for token_id in row], device=model.device)
    return step.run_rows(ids_N, buffer, starts, [len(row) for row in rows], last_masks, own_masks)


def _own_masks(model: LoadedModel, start: int, end: int) -> Masks | None:
    """Return the masks of the tokens from ``start`` to ``end`` of one row; None if each attends to all before it, which
    all run with it."""
    if not start and (model.window is None or end <= model.window):
        return None
    positions_1C = torch.arange(end, device=model.device)[None]
    queries_1T = positions_1C[:, start:]
    return masks_of(model, positions_1C[:, None] <= queries_1T[:, :, None], queries_1T, positions_1C)


@torch.inference_mode()
def to_logits(model: LoadedModel, hidden_BE: Tensor) -> Tensor:
    """Return next-token logits ``[B, vocabulary]``, float32. As in any serving engine, a turn brings only its last
    positions here."""
    return model.scales.logits(model.network.lm_head(hidden_BE).float())


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

    ``positions`` holds the positions of those first tokens. ``visible_BC`` says which slots of ``buffer`` each row may
    attend to, including slots not yet filled; None for all. A row ends at an end-of-sequence token or after
    ``max_new_tokens`` tokens. Row b's answer starts in slot ``buffer.length`` (as it was on entry). If its last token
    was the ``max_new_tokens``-th, that token's KV is missing, because nothing needed its logits.
    """
    ids = list(first_ids)
    answers: list[list[int]] = [[] for _ in ids]
    ended = [False] * len(ids)
    captured = steps_of(model, buffer, visible_BC, to_logits, max_new_tokens)
    for step in range(max_new_tokens):
        for row, token_id in enumerate(ids):
            ended[row] = ended[row] or token_id in eos_ids
            if not ended[row]:
                answers[row].append(token_id)
        if all(ended) or step == max_new_tokens - 1:
            break
        # Rows that have ended keep running, unmasked and unread, until the last row ends.
        now = [p + step for p in positions]
        take = partial(_logits_of_one, model, ids, buffer, now, visible_BC)
        ids = captured.next(ids, now, take) if captured is not None else take().argmax(dim=-1).tolist()
        buffer.length += 1
    return [
        Answer(tuple(answer), "eos" if stopped else "length") for answer, stopped in zip(answers, ended, strict=True)
    ]


def _logits_of_one(
    model: LoadedModel, ids: Sequence[int], buffer: KVBuffer, positions: Sequence[int], visible_BC: Tensor | None
) -> Tensor:
    """Run one token per row in slot ``buffer.length``, which stays as it is. Return logits ``[B, vocabulary]``."""
    slots = [buffer.length] * len(ids)
    return to_logits(model, advance_one(model, ids, buffer, slots=slots, positions=positions, visible_BC=visible_BC))


def take_first_steps(model: LoadedModel, prompt_ids: TokenIds) -> None:
    """Prefill a prompt and decode two tokens for nothing: the first passes of a process pay for one-off set-up."""
    buffer = KVBuffer(model.layout, rows=1, capacity=len(prompt_ids) + 2)
    first_ids = to_logits(model, advance(model, [prompt_ids], buffer)).argmax(dim=-1).tolist()
    decode_greedily(
        model, first_ids, buffer, positions=[len(prompt_ids)], visible_BC=None, max_new_tokens=2, eos_ids=()
    )
