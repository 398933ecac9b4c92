"""Keys and values, and the only code that knows how the transformers cache lays them out.

Shape suffixes, here and everywhere: L layers, B rows of a batch, H key/value heads, T tokens, C capacity in tokens, D
head size. Where accelerate spreads a model over several devices, each layer's KV stays with the layer. Everything
therefore comes as one tensor per *layer group*: a run of layers that share a device.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

from kvcomm_core.devices.transfers import to_device

Part = Literal["keys", "values"]


@dataclass(frozen=True, slots=True)
class LayerGroup:
    """``layers`` consecutive decoder layers on one device."""

    device: torch.device
    layers: int


@dataclass(frozen=True, slots=True)
class KVLayout:
    """The shape of a model's KV: layer groups, heads H, head size D and dtype."""

    groups: tuple[LayerGroup, ...]
    heads: int
    head_dim: int
    dtype: torch.dtype

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """The different devices of the layers, in their order."""
        return tuple(dict.fromkeys(group.device for group in self.groups))

    @property
    def bytes_per_token(self) -> int:
        """Bytes that the keys and values of one token take in one row."""
        layers = sum(group.layers for group in self.groups)
        return 2 * layers * self.heads * self.head_dim * self.dtype.itemsize

    def describe(self) -> str:
        """Describe the layout in one line. Layouts whose KV is interchangeable and computed on the same kinds of
        devices have the same line."""
        groups = " + ".join(f"{group.layers} layers on {group.device.type}" for group in self.groups)
        return f"{groups}, {self.heads} heads of {self.head_dim}, {str(self.dtype).removeprefix('torch.')}"


@dataclass(frozen=True, slots=True)
class KV:
    """The keys and values of T consecutive tokens of one row: per layer group a ``[L, H, T, D]`` tensor each."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    def __len__(self) -> int:
        return self.keys[0].shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes of the elements, also for a view whose storage is larger."""
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors, keys first; :meth:`next_of` makes KV of them again."""
        return (*self.keys, *self.values)

    @classmethod
    def next_of(cls, tensors: Iterator[Tensor], layout: KVLayout) -> "KV":
        """Return KV made of the next tensors, as many as a model of this layout has, on the devices of its layers."""
        keys, values = (tuple(next(tensors).to(group.device) for group in layout.groups) for _ in ("keys", "values"))
        return cls(keys, values)

    def slice(self, start: int, stop: int) -> "KV":
        """Return a view of tokens ``start`` to ``stop``."""
        return KV(
            tuple(k_LHTD[:, :, start:stop] for k_LHTD in self.keys),
            tuple(v_LHTD[:, :, start:stop] for v_LHTD in self.values),
        )

    def copy(self) -> "KV":
        """Return a copy in memory of its own."""
        return KV(tuple(k_LHTD.clone() for k_LHTD in self.keys), tuple(v_LHTD.clone() for v_LHTD in self.values))

    def copy_to(self, target: "KV") -> None:
        """Copy the tensors into ``target``, views of the same shape."""
        for taken, given in zip((*target.keys, *target.values), (*self.keys, *self.values), strict=True):
            taken.copy_(given)

    def followed_by(self, other: "KV") -> "KV":
        """Return a copy of this KV with the tokens of ``other`` after its own."""
        return KV(
            tuple(torch.cat([a, b], dim=2) for a, b in zip(self.keys, other.keys, strict=True)),
            tuple(torch.cat([a, b], dim=2) for a, b in zip(self.values, other.values, strict=True)),
        )

    def minus(self, other: "KV") -> "KV":
        """Return a new KV with ``other``, of the same shape, subtracted."""
        return KV(
            tuple(a - b for a, b in zip(self.keys, other.keys, strict=True)),
            tuple(a - b for a, b in zip(self.values, other.values, strict=True)),
        )


class KVBuffer:
    """Room for the KV of ``rows`` prompts of up to ``capacity`` tokens, filled in place.

    The buffer is the cache object of a forward pass, so nothing grows by concatenation. The model writes the new tokens
    at ``length``, which is the same in every row and layer, and attends to a view of everything before. Methods write
    reused KV through :meth:`view`.
    """

    def __init__(self, layout: KVLayout, rows: int, capacity: int) -> None:
        shape = (rows, layout.heads, capacity, layout.head_dim)
        self._use(
            layout,
            tuple(
                # Start from zeros: attention gives masked slots a weight of 0, and 0 times a NaN left in memory is NaN.
                torch.zeros((2, group.layers, *shape), dtype=layout.dtype, device=group.device)
                for group in layout.groups
            ),
        )

    @classmethod
    def within(cls, parent: "KVBuffer", rows: slice, capacity: int) -> "KVBuffer":
        """Return some rows of ``parent``, up to their first ``capacity`` tokens, as a buffer with its own length."""
        if capacity > parent.capacity:
            raise ValueError(f"capacity is {capacity}; allowed: at most the {parent.capacity} of the buffer around it")
        buffer = cls.__new__(cls)
        buffer._use(parent.layout, tuple(kv[:, :, rows, :, :capacity] for kv in parent._groups))
        return buffer

    def _use(self, layout: KVLayout, groups: tuple[Tensor, ...]) -> None:
        """Set the fields from storage, which holds keys and values together per layer group, ``[2, L, B, H, C, D]``."""
        self.layout = layout
        self._groups = groups
        self.rows: int = groups[0].shape[2]
        self.capacity: int = groups[0].shape[4]
        self._layers = [
            _BufferLayer(keys_BHCD, values_BHCD)
            for keys_LBHCD, values_LBHCD in groups
            for keys_BHCD, values_BHCD in zip(keys_LBHCD, values_LBHCD, strict=True)
        ]
        self.cache = Cache(layers=list(self._layers))

    @property
    def length(self) -> int:
        """Tokens filled."""
        return self._layers[0].filled

    @length.setter
    def length(self, tokens: int) -> None:
        if not 0 <= tokens <= self.capacity:
            raise ValueError(f"length is {tokens}; allowed: 0 to the capacity {self.capacity}")
        for layer in self._layers:
            layer.filled = tokens

    def forget(self) -> None:
        """Make room for other turns, whose masked slots hold what earlier ones left there.

        Only float16 overflows. An infinity times the weight 0 of a masked slot is NaN, which one bad turn would pass on
        to all later ones. So float16 starts from zeros again. The other dtypes keep what is there.
        """
        if self.layout.dtype == torch.float16:
            for group in self._groups:
                group.zero_()

    def view(self, start: int, stop: int, row: int = 0) -> KV:
        """Return tokens ``start`` to ``stop`` of one row, to read or to write in place."""
        if not 0 <= start <= stop <= self.capacity:
            raise ValueError(f"tokens {start} to {stop} are outside the capacity {self.capacity}")
        return KV(
            tuple(keys[:, row, :, start:stop] for keys, _ in self._groups),
            tuple(values[:, row, :, start:stop] for _, values in self._groups),
        )

    @contextmanager
    def writing_at(self, slots: Sequence[int]) -> Iterator[None]:
        """Let the model write the one token that it runs per row to these slots, one per row, within the block. It
        attends to all slots up to the last of them, and ``length`` stays as it is."""
        by_device = {group.device: to_device(slots, group.device) for group in self.layout.groups}
        for layer in self._layers:
            layer.slots_B, layer.stop = by_device[layer.keys.device], max(slots) + 1
        try:
            yield
        finally:
            for layer in self._layers:
                layer.slots_B = None

    def at_slot(self, slot: int) -> list[Tensor]:
        """Return keys and values ``[2, B, H, D]`` of one slot of all rows, to read or to write, of each layer."""
        return [kv_2BHD for group in self._groups for kv_2BHD in group[..., slot, :].unbind(1)]

    def up_to(self, stop: int) -> list[tuple[Tensor, Tensor]]:
        """Return keys and values ``[B, H, stop, D]`` of each layer."""
        keys, values = ([part[..., :stop, :].unbind(0) for part in parts] for parts in zip(*self._groups, strict=True))
        return list(zip(chain.from_iterable(keys), chain.from_iterable(values), strict=True))

    @property
    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Keys and values ``[B, H, C, D]`` of each decoder layer."""
        return [(layer.keys, layer.values) for layer in self._layers]

    def row(self, row: int) -> "KVBuffer":
        """Return one row as a buffer of its own."""
        return KVBuffer.within(self, slice(row, row + 1), self.capacity)


class _BufferLayer(CacheLayerMixin):
    """One decoder layer's part of a KVBuffer, in the shape that transformers expects of a cache layer."""

    is_sliding = False
    keys: Tensor
    values: Tensor

    def __init__(self, keys_BHCD: Tensor, values_BHCD: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys, self.values = keys_BHCD, values_BHCD
        self.filled = 0
        self.slots_B: Tensor | None = None
        """Where each row's next token goes; None for slot ``filled`` and the ones after it."""
        self.stop = 0
        """The slot after the last of ``slots_B``, known without asking the device."""
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Do nothing: the buffer exists before the first forward pass."""

    def update(self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append ``[B, H, T, D]`` new keys and values. Return views of everything filled."""
        if self.slots_B is not None:
            rows_B, stop = torch.arange(len(self.slots_B), device=self.slots_B.device), self.stop
            self.keys[rows_B, :, self.slots_B] = key_states[:, :, 0]
            self.values[rows_B, :, self.slots_B] = value_states[:, :, 0]
            return self.keys[:, :, :stop], self.values[:, :, :stop]
        stop = self.filled + key_states.shape[2]
        if stop > self.keys.shape[2]:
            raise ValueError(f"{stop} tokens do not fit a KVBuffer of capacity {self.keys.shape[2]}")
        self.keys[:, :, self.filled : stop] = key_states
        self.values[:, :, self.filled : stop] = value_states
        self.filled = stop
        return self.keys[:, :, :stop], self.values[:, :, :stop]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.filled + query_length, 0

    def get_seq_length(self) -> int:
        return self.filled

    def get_max_length(self) -> int:
        return int(self.keys.shape[2])


def layer_groups(devices: Sequence[torch.device]) -> tuple[LayerGroup, ...]:
    """Group consecutive layers on the same device, given the device of each layer in order."""
    groups: list[LayerGroup] = []
    for device in devices:
        if groups and groups[-1].device == device:
            groups[-1] = LayerGroup(device, groups[-1].layers + 1)
        else:
            groups.append(LayerGroup(device, 1))
    return tuple(groups)
