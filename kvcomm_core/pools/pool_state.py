"""The state of anchor pools as plain data and a list of tensors, so that files can hold it and a trial can resume from
it.

A description refers to each tensor by its index in the list. A tensor that several anchors share is in the list once,
and is shared again after :func:`rebuild_pools`. Rebuilt pools behave as the described ones to the last bit.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kvcomm_core.config import Placement
from kvcomm_core.packed import PackedKV, to_host
from kvcomm_core.pools.affine_maps import AffineKV, AffineMap, AffineOffset
from kvcomm_core.pools.anchor_pools import PoolState, Summary
from kvcomm_core.pools.anchors import Anchor, Offset, Slot
from kvcomm_core.pools.base_values import BaseValues
from kvcomm_core.pools.running_means import MeanKV, MeanOffset

Description = dict[str, Any]
"""One entry per placeholder, made of JSON types."""


def describe_pools(pools: Mapping[str, PoolState]) -> tuple[Description, list[Tensor]]:
    """Return a description of the pools and the tensors they hold, which are not copied."""
    numbering = _Numbering()
    return {placeholder: _describe_pool(state, numbering) for placeholder, state in pools.items()}, numbering.tensors


def rebuild_pools(
    description: Description, tensors: Sequence[Tensor], devices: Sequence[torch.device], placement: Placement
) -> dict[str, PoolState]:
    """Rebuild the pools of a description. ``tensors`` may be on any device; they move to where pools of this
    ``placement`` keep them, for a model whose layer groups are on ``devices``."""
    rebuilding = _Rebuilding(tensors, tuple(devices), placement)
    return {placeholder: rebuilding.pool(plain) for placeholder, plain in description.items()}


class _Numbering:
    """The tensors of a description, numbered as they are added."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self._numbers: dict[int, int] = {}

    def of(self, tensors: tuple[Tensor, ...]) -> list[int]:
        for tensor in tensors:
            if id(tensor) not in self._numbers:
                self._numbers[id(tensor)] = len(self.tensors)
                self.tensors.append(tensor)
        return [self._numbers[id(tensor)] for tensor in tensors]


def _describe_pool(state: PoolState, numbering: _Numbering) -> Description:
    def slot(slot: Slot) -> Description:
        return {"template": slot.template, "hole": slot.hole}

    def packed(kv: PackedKV) -> Description:
        return {
            "keys": numbering.of(kv.keys),
            "values": numbering.of(kv.values),
            "key_scales": None if kv.key_scales is None else numbering.of(kv.key_scales),
            "value_scales": None if kv.value_scales is None else numbering.of(kv.value_scales),
        }

    def mean(kv: MeanKV) -> Description:
        return {
            "keys": numbering.of(kv.keys),
            "values": numbering.of(kv.values),
            "counts": kv.counts_T.tolist(),
            "reach": kv.reach,
            "overall_keys": numbering.of(kv.overall_keys),
            "overall_values": numbering.of(kv.overall_values),
        }

    def affine(kv: AffineKV) -> Description:
        return {
            "affine_keys": [numbering.of(one.tensors) for one in kv.keys],
            "affine_values": [numbering.of(one.tensors) for one in kv.values],
            "counts": kv.counts_T.tolist(),
        }

    return {
        "anchors": [
            {
                "token_ids": list(anchor.token_ids),
                "base_values": numbering.of(anchor.base_values.groups),
                "base_keys": numbering.of(anchor.base_keys),
                "offsets": [
                    {**slot(where), "placeholder": packed(offset.placeholder), "text": packed(offset.text)}
                    for where, offset in anchor.offsets.items()
                ],
                "uses": uses,
                "activations": activations,
                "tokens": tokens,
            }
            for anchor, uses, activations, tokens in zip(
                state.anchors, state.uses, state.activations, state.tokens, strict=True
            )
        ],
        "means": [
            {
                **slot(where),
                "placeholder": affine(o.placeholder) if isinstance(o, AffineOffset) else mean(o.placeholder),
                "text": mean(o.text),
            }
            for where, o in state.means.items()
        ],
    }


class _Rebuilding:
    """The reverse step: rebuild pools from their descriptions."""

    def __init__(self, tensors: Sequence[Tensor], devices: tuple[torch.device, ...], placement: Placement) -> None:
        self._tensors, self._devices, self._placement = tensors, devices, placement
        self._placed: dict[tuple[int, bool], Tensor] = {}

    def pool(self, plain: Description) -> PoolState:
        anchors = plain["anchors"]
        return PoolState(
            anchors=tuple(
                Anchor(
                    tuple(anchor["token_ids"]),
                    BaseValues.stored(self._take(anchor["base_values"])),
                    {
                        _slot(offset): Offset(self._packed(offset["placeholder"]), self._packed(offset["text"]))
                        for offset in anchor["offsets"]
                    },
                    self._take(anchor["base_keys"]),
                )
                for anchor in anchors
            ),
            uses=tuple(anchor["uses"] for anchor in anchors),
            activations=tuple(anchor["activations"] for anchor in anchors),
            tokens=tuple(anchor["tokens"] for anchor in anchors),
            means={_slot(summary): self._summary(summary) for summary in plain["means"]},
        )

    def _packed(self, plain: Description) -> PackedKV:
        return PackedKV(
            self._take(plain["keys"]),
            self._take(plain["values"]),
            None if plain["key_scales"] is None else self._take(plain["key_scales"]),
            None if plain["value_scales"] is None else self._take(plain["value_scales"]),
            self._devices,
        )

    def _summary(self, plain: Description) -> Summary:
        placeholder, text = plain["placeholder"], self._mean(plain["text"])
        if "affine_keys" in placeholder:
            return AffineOffset(self._affine(placeholder), text)
        return MeanOffset(self._mean(placeholder), text)

    def _affine(self, plain: Description) -> AffineKV:
        def maps(numbers: list[list[int]]) -> tuple[AffineMap, ...]:
            groups = zip(numbers, self._devices, strict=True)
            return tuple(AffineMap(*(self._place(n, device, True) for n in of_one)) for of_one, device in groups)

        counts_T = torch.tensor(plain["counts"], dtype=torch.long)
        return AffineKV(maps(plain["affine_keys"]), maps(plain["affine_values"]), counts_T)

    def _mean(self, plain: Description) -> MeanKV:
        # Running sums always stay with their layers, whatever the placement of anchors.
        return MeanKV(
            self._take(plain["keys"], with_layers=True),
            self._take(plain["values"], with_layers=True),
            torch.tensor(plain["counts"], dtype=torch.long),
            plain["reach"],
            self._take(plain["overall_keys"], with_layers=True),
            self._take(plain["overall_values"], with_layers=True),
        )

    def _take(self, numbers: list[int], *, with_layers: bool = False) -> tuple[Tensor, ...]:
        """Return one tensor per layer group; none where none was kept."""
        return tuple(
            self._place(number, device, with_layers or self._placement == "device")
            for number, device in zip(numbers, self._devices[: len(numbers)], strict=True)
        )

    def _place(self, number: int, device: torch.device, with_layers: bool) -> Tensor:
        if (number, with_layers) not in self._placed:
            tensor = self._tensors[number].to(device)
            # Tensors go through the device even on their way to the host, so that they are pinned there as before.
            self._placed[number, with_layers] = tensor if with_layers else to_host((tensor,))[0]
        return self._placed[number, with_layers]


def _slot(plain: Description) -> Slot:
    return Slot(plain["template"], plain["hole"])
