"""Anchors: the samples of a placeholder from which later offsets are estimated (paper, section 3.2).

An anchor holds what the config compares of the sample's base KV and, per *slot* (one hole of one consuming template),
the offsets measured there. Anchors are immutable.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from kvcomm_core.config import KVCommConfig
from kvcomm_core.kv import KV
from kvcomm_core.packed import PackedKV, to_host
from kvcomm_core.pools.base_values import BaseValues
from kvcomm_core.template import TokenIds


@dataclass(frozen=True, slots=True)
class Slot:
    """One hole of one template."""

    template: str
    """The template's name."""
    hole: int
    """Index of the hole, from 0."""


@dataclass(frozen=True, slots=True)
class Offset:
    """True KV under the agent's full prompt minus base KV, keys at local positions (paper, section 3.2)."""

    placeholder: PackedKV
    """The offset of the placeholder's T tokens."""
    text: PackedKV
    """The offset of the P tokens of the text segment after it."""

    @property
    def nbytes(self) -> int:
        return self.placeholder.nbytes + self.text.nbytes


@dataclass(frozen=True, slots=True)
class Anchor:
    """One sample of a placeholder with its offsets."""

    token_ids: TokenIds
    base_values: BaseValues
    """Values of the base KV, by which samples are compared; none unless the config ``compares_samples``."""
    offsets: Mapping[Slot, Offset]
    base_keys: tuple[Tensor, ...] = ()
    """Keys of the base KV at local positions, of the same shape; empty unless the config ``compares_keys``."""

    @classmethod
    def of(cls, token_ids: TokenIds, base: KV, offsets: Mapping[Slot, Offset], config: KVCommConfig) -> "Anchor":
        """Return the anchor of a sample. It holds the part of the base KV that the config compares, on the device
        where anchors are kept."""
        on_host = config.placement == "host"
        keys = base.keys if config.compares_keys else ()
        # Weights that differ from element to element read the elements themselves, and no sum over them.
        values = (
            BaseValues.of(base.values, compact=not config.compares_keys, on_host=on_host)
            if config.compares_samples
            else BaseValues.none()
        )
        return cls(token_ids, values, offsets, to_host(keys) if on_host else keys)

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors held."""
        compared = self.base_values.nbytes + sum(keys.nbytes for keys in self.base_keys)
        return compared + sum(offset.nbytes for offset in self.offsets.values())
