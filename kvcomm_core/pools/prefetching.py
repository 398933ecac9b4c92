"""Offsets that lie in host memory, brought to the device before they are asked for.

While an agent's answer is decoded, the link to the host is idle. Most of the next agent's prompt is known by then: its
texts, the question, and earlier answers. The offsets of their anchors are copied meanwhile, on a stream of their own;
from pinned memory neither the host nor the decoding waits for that. They are dropped when those of another agent are
begun, so the device holds the offsets of one agent at a time.

No GPU has run this yet. On a CPU, where all anchors are in host memory, the same calls copy nothing.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

import torch

from kvcomm_core.packed import PackedKV


@dataclass(frozen=True, slots=True)
class _Coming:
    """Offsets on their way."""

    stored: PackedKV
    """Held, so that no other gets its identity."""
    fetched: PackedKV
    copied: dict[torch.device, torch.cuda.Event]
    """The event after the copy, for each GPU that holds layers."""


class Prefetcher:
    """The offsets that the next agent will read, if nothing else is decided."""

    def __init__(self) -> None:
        self._coming: dict[int, _Coming] = {}
        self._streams: dict[torch.device, torch.cuda.Stream] = {}

    def start(self, offsets: Iterable[PackedKV]) -> None:
        """Begin to copy these offsets, and drop others that were copied before. Those that are on their way go on."""
        wanted = {id(offset): offset for offset in offsets}
        self._coming = {key: coming for key, coming in self._coming.items() if key in wanted}
        for key, offset in wanted.items():
            if key not in self._coming:
                self._coming[key] = self._copied(offset)

    def take(self, offset: PackedKV) -> PackedKV:
        """Return the offset on the devices where it is needed, there when work that is queued now reads it."""
        coming = self._coming.get(id(offset))
        if coming is None:
            return offset.fetch()
        for device, event in coming.copied.items():
            torch.cuda.current_stream(device).wait_event(event)  # which the host does not wait for
        for tensor in coming.fetched.tensors if coming.copied else ():
            if tensor.is_cuda:  # the stream that allocated it must not reuse it before this one is done
                tensor.record_stream(torch.cuda.current_stream(tensor.device))
        return coming.fetched

    def _copied(self, offset: PackedKV) -> _Coming:
        devices = dict.fromkeys(device for device in offset.devices if device.type == "cuda")
        for device in devices:
            if device not in self._streams:
                self._streams[device] = torch.cuda.Stream(device)
        with ExitStack() as stack:
            for device in devices:
                stack.enter_context(torch.cuda.stream(self._streams[device]))
            fetched = offset.fetch()
            events = {device: self._streams[device].record_event() for device in devices}
        return _Coming(offset, fetched, events)
