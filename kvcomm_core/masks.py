"""Attention masks for tokens that do not simply follow what stands in a buffer.

Where every row is in one piece, transformers makes its own masks. Where slots are hidden or tokens stand anywhere, the
engine says which slots a token may attend to. A layer with a window sees, of these, the tokens fewer than ``window``
positions before its own. Positions count within a row, so a gap in the buffer takes nothing of the window.
"""

import torch
from torch import Tensor

from kvcomm_core.models.loading import LoadedModel

Masks = dict[str, Tensor]
"""A mask ``[B, 1, T, C]`` for each of the model's layer types: true where a token attends, or what is added to
its scores."""


def masks_of(model: LoadedModel, allowed_BTC: Tensor, query_positions_BT: Tensor, key_positions_BC: Tensor) -> Masks:
    """Return the masks that let T tokens attend to C slots as allowed, and within each layer's window."""
    masks = {}
    for layer_type in dict.fromkeys(model.layer_types):
        mask_BTC = allowed_BTC
        if layer_type == "sliding_attention" and model.window is not None:
            mask_BTC = allowed_BTC & (query_positions_BT[:, :, None] - key_positions_BC[:, None] < model.window)
        masks[layer_type] = _as_attention_takes_it(model, mask_BTC[:, None])
    return masks


def masks_of_one_token(model: LoadedModel, visible_BC: Tensor, positions_BT: Tensor) -> Masks:
    """Return the masks of one token per row, which stands in the last of the C slots. ``visible_BC`` says which slots
    hold tokens of the row, in order."""
    key_positions_BC = visible_BC.cumsum(dim=1) - 1 if model.window is not None else positions_BT
    return masks_of(model, visible_BC[:, None], positions_BT, key_positions_BC)


def for_decoder(masks: Masks) -> Tensor | Masks:
    """Return the masks as transformers' decoders take them: one mask if all layers are alike."""
    [*different] = masks.values()
    return different[0] if len(different) == 1 else masks


def _as_attention_takes_it(model: LoadedModel, mask_B1TC: Tensor) -> Tensor:
    if model.network.config._attn_implementation != "eager":
        return mask_B1TC
    hidden = torch.finfo(model.dtype).min
    zeros = torch.zeros(mask_B1TC.shape, dtype=model.dtype, device=mask_B1TC.device)
    return zeros.masked_fill(~mask_B1TC, hidden)
