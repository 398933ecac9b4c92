"""One token per row, or several, through a model's layers, written out once for layers alike Llama's.

transformers builds masks, copies KV heads and calls some 20 modules per layer for each token. The step calls two norms,
four products and PyTorch's attention per layer, and writes the token's KV in place. Every row has a slot and a position
of its own, so rows may be of any length and may be refilled.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from kvcomm_core.config import one_line
from kvcomm_core.devices.transfers import to_device
from kvcomm_core.fused.layers import FusedLayer, fuse_layers
from kvcomm_core.kv import KVBuffer, KVLayout

LARGEST_DIFFERENCE = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Norm of the difference to transformers' hidden states and KV, relative to their norm. It is above what rounding
makes: a choice, not a measured bound."""

Attend = Callable[[int, float, str, Tensor, Tensor], Tensor]
"""Keeps the new keys and values of N tokens ``[N, 2, H, D]`` and attends with their queries ``[N, H, D]``, which have
more heads; given the layer's index, factor and type."""


class DecodeStep:
    """The step of one model."""

    def __init__(
        self, network: Any, layers: Sequence[FusedLayer], layer_types: Sequence[str], layout: KVLayout, embedding: float
    ) -> None:
        self._decoder = network.model
        self._layers = list(zip(layers, layer_types, strict=True))
        self._kv_heads, self._head_dim = layout.heads, layout.head_dim
        self._embedding = embedding
        # torch changes these dictionaries in place.
        self._hooks = [
            hooks for module in network.modules() for hooks in (module._forward_hooks, module._forward_pre_hooks)
        ]
        self.captured: dict[object, Any] = {}
        """Graphs of this step, which live as long as it does; see ``gpu/captured_steps.py``."""

    @property
    def is_watched(self) -> bool:
        """Whether somebody has put a hook on a module, which the step would not call."""
        return any(self._hooks)

    def __call__(
        self,
        ids_B: Tensor,
        buffer: KVBuffer,
        slots: Sequence[int],
        positions_B: Tensor,
        masks: Mapping[str, Tensor] | None,
    ) -> Tensor:
        """Run one token per row and return the decoder's last hidden states ``[B, hidden size]``.

        Row b's KV goes to slot ``slots[b]`` of ``buffer``. ``masks`` says, for each layer type, which slots up to the
        last of ``slots`` each row attends to, ``[B, 1, 1, slots]``; None for all of them.
        """
        stored = buffer.up_to(max(slots) + 1)
        # Rows that write to one slot, as in a batch that decodes in step, take one copy per layer.
        targets = buffer.at_slot(slots[0]) if len(set(slots)) == 1 else to_device(slots, ids_B.device)
        return self.run(ids_B, stored, targets, positions_B, masks)

    def run(
        self,
        ids_B: Tensor,
        stored: Sequence[tuple[Tensor, Tensor]],
        targets: Sequence[Tensor] | Tensor,
        positions_B: Tensor,
        masks: Mapping[str, Tensor] | None,
    ) -> Tensor:
        """Do the same with tensors alone, so that a graph can be captured of it.

        ``stored`` has the keys and values ``[B, H, C, D]`` of each layer that rows may attend to. ``targets`` is where
        the tokens' KV goes: each layer's ``[2, B, H, D]``, or each row's slot ``[B]``.
        """
        rows_B = torch.arange(len(ids_B), device=ids_B.device)

        def attend(index: int, scaling: float, layer_type: str, queries_BHD: Tensor, new_B2HD: Tensor) -> Tensor:
            keys_BHCD, values_BHCD = stored[index]
            if isinstance(targets, Tensor):
                where = (rows_B, slice(None), targets)
                keys_BHCD[where], values_BHCD[where] = new_B2HD.unbind(1)
            else:
                targets[index].copy_(new_B2HD.transpose(0, 1))
            mask = None if masks is None else masks[layer_type]
            return _attention(queries_BHD[:, :, None], keys_BHCD, values_BHCD, mask, scaling)[:, :, 0]

        return self._run(ids_B, positions_B, attend)

    def run_rows(
        self,
        ids_N: Tensor,
        buffer: KVBuffer,
        starts: Sequence[int],
        lengths: Sequence[int],
        last_masks: Mapping[str, Tensor],
        own_masks: Sequence[Mapping[str, Tensor] | None],
    ) -> Tensor:
        """Run several tokens per row, in one pass without padding. Return the decoder's last hidden state of each row's
        last token, ``[B, hidden size]``.

        ``ids_N`` holds the tokens of all rows, one row after another. Row b has ``lengths[b]`` of them, at slots and
        positions from ``starts[b]`` on. ``last_masks`` says, for each layer type, which slots each row's last token
        attends to, ``[B, 1, 1, C]``, C being the first slot that no row has filled. ``own_masks`` says the same of all
        tokens of a row, ``[1, 1, T, slots]``; None for those of a row without earlier tokens, each of which attends to
        itself and all before it.
        """
        ends = [start + length for start, length in zip(starts, lengths, strict=True)]
        stored = buffer.up_to(max(ends))
        rows = [row for row, length in enumerate(lengths) for _ in range(length)]
        slots = [slot for start, end in zip(starts, ends, strict=True) for slot in range(start, end)]
        where = (to_device(rows, ids_N.device), slice(None), to_device(slots, ids_N.device))
        last = [stop - 1 for stop in accumulate(lengths)]
        several = [row for row, length in enumerate(lengths) if length > 1]

        def attend(index: int, scaling: float, layer_type: str, queries_NHD: Tensor, new_N2HD: Tensor) -> Tensor:
            keys_BHCD, values_BHCD = stored[index]
            keys_BHCD[where], values_BHCD[where] = new_N2HD.unbind(1)
            attended_NHD = torch.empty_like(queries_NHD)
            one_BHTD = queries_NHD[last][:, :, None]
            attended_NHD[last] = _attention(one_BHTD, keys_BHCD, values_BHCD, last_masks[layer_type], scaling)[:, :, 0]
            for row in several:
                own, masks = slice(last[row] + 1 - lengths[row], last[row] + 1), own_masks[row]
                attended_NHD[own] = _attention(
                    queries_NHD[own].transpose(0, 1)[None],
                    keys_BHCD[row : row + 1, :, : ends[row]],
                    values_BHCD[row : row + 1, :, : ends[row]],
                    None if masks is None else masks[layer_type],
                    scaling,
                    is_causal=masks is None,
                )[0].transpose(0, 1)
            return attended_NHD

        return self._run(ids_N, where[2], attend)[last]

    def _run(self, ids_N: Tensor, positions_N: Tensor, attend: Attend) -> Tensor:
        """Run tokens through all layers. Return the decoder's last hidden states ``[N, hidden size]``."""
        shape = (len(ids_N), -1, self._head_dim)
        h_NE = self._decoder.embed_tokens(ids_N)
        if self._embedding != 1.0:
            h_NE = h_NE * self._embedding
        cos_N1D, sin_N1D = self._decoder.rotary_emb(h_NE[:, None], position_ids=positions_N[:, None])
        half = self._head_dim // 2
        sin_N1D = torch.cat([-sin_N1D[..., :half], sin_N1D[..., half:]], dim=-1)
        for index, (layer, layer_type) in enumerate(self._layers):
            x_NHD = layer.qkv(layer.norm(h_NE)).view(shape)
            queries = x_NHD.shape[1] - 2 * self._kv_heads
            if layer.q_norm is not None and layer.k_norm is not None:
                q_NHD, k_NHD, v_NHD = x_NHD.split((queries, self._kv_heads, self._kv_heads), 1)
                x_NHD = torch.cat([layer.q_norm(q_NHD), layer.k_norm(k_NHD), v_NHD], dim=1)
            if layer.rotates:
                # Pair i is dimensions i and i + D/2. Values, which stand last, stay as they are.
                turned_NHD = x_NHD[:, : -self._kv_heads]
                torch.addcmul(turned_NHD * cos_N1D, turned_NHD.roll(half, -1), sin_N1D, out=turned_NHD)
            new_N2HD = x_NHD[:, queries:].unflatten(1, (2, self._kv_heads))
            attended_NHD = attend(index, layer.scaling, layer_type, x_NHD[:, :queries], new_N2HD)
            h_NE = h_NE + self._scaled(layer, layer.output(attended_NHD.reshape(len(ids_N), -1)))
            gate_NI, up_NI = layer.gate_up(layer.mlp_norm(h_NE)).chunk(2, dim=1)
            h_NE = h_NE + self._scaled(layer, layer.down(layer.activation(gate_NI) * up_NI))
        hidden_NE: Tensor = self._decoder.norm(h_NE)
        return hidden_NE

    @staticmethod
    def _scaled(layer: FusedLayer, x_BE: Tensor) -> Tensor:
        return x_BE if layer.residual == 1.0 else x_BE * layer.residual


def _attention(
    queries_BHTD: Tensor,
    keys_BHCD: Tensor,
    values_BHCD: Tensor,
    mask: Tensor | None,
    scaling: float,
    *,
    is_causal: bool = False,
) -> Tensor:
    return functional.scaled_dot_product_attention(
        queries_BHTD, keys_BHCD, values_BHCD, attn_mask=mask, is_causal=is_causal, scale=scaling, enable_gqa=True
    )


def build_step(network: Any, layout: KVLayout, layer_types: Sequence[str], embedding: float) -> DecodeStep | str:
    """Return the step of a network, or why it has none.

    The layers must be known, and the step must give what transformers gives: both run the last token of two short rows.
    """
    if len(layout.groups) > 1:
        return "layers are on several devices"
    layers = fuse_layers(network)
    if isinstance(layers, str):
        return layers
    step = DecodeStep(network, layers, layer_types, layout, embedding)
    try:
        difference = _difference(step, network, layout)
    except RuntimeError as error:
        if layout.groups[0].device.type == "cpu":
            raise
        return f"the step failed: {one_line(error)}"  # no GPU has run it yet, and transformers' layers serve as well
    allowed = LARGEST_DIFFERENCE[layout.dtype]
    return step if difference <= allowed else f"the step differs from transformers by {difference:.1e}"


@torch.inference_mode()
def _difference(step: DecodeStep, network: Any, layout: KVLayout) -> float:
    """Return the largest norm, over rows and over hidden state and new KV, of the difference to transformers' own pass,
    relative to the norm of what that gives."""
    ids_BT = (
        torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]], device=layout.groups[0].device) % network.config.vocab_size
    )
    (rows, tokens), found = ids_BT.shape, []
    for fused in (False, True):
        buffer = KVBuffer(layout, rows, tokens)
        network.model(input_ids=ids_BT[:, :-1], past_key_values=buffer.cache, use_cache=True)
        if fused:
            positions_B = torch.full((rows,), tokens - 1, device=ids_BT.device)
            hidden_BE = step(ids_BT[:, -1], buffer, [tokens - 1] * rows, positions_B, None)
        else:
            last = network.model(input_ids=ids_BT[:, -1:], past_key_values=buffer.cache, use_cache=True)
            hidden_BE = last.last_hidden_state[:, 0]
        found.append([hidden_BE, *(kv_2BHD.transpose(0, 1) for kv_2BHD in buffer.at_slot(tokens - 1))])
    differences = [
        ((a - b).flatten(1).norm(dim=1) / a.flatten(1).norm(dim=1)).max() for a, b in zip(*found, strict=True)
    ]
    return float(torch.stack(differences).max())
