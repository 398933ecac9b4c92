"""Greedy decoding by graphs: on a GPU a step is captured once and replayed. Launching it takes longer than running it.

A graph has fixed shapes and addresses. The step therefore runs over a *width* of slots, a multiple of ``WIDTH``, of
which a mask shows each row its own; ids, slots, positions and mask are tensors that the graph itself moves on. Graphs
are kept per rows, width and place of the KV, which the engine's buffer keeps from turn to turn. A graph serves only
once it has given, for the step at hand, what the step gives without it; otherwise decoding goes on without graphs.

**No graph has been captured yet**: no GPU was at hand. Tests run what would be captured on a CPU, step by step.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from kvcomm_core.config import one_line
from kvcomm_core.devices.transfers import to_device
from kvcomm_core.fused.step import LARGEST_DIFFERENCE, DecodeStep
from kvcomm_core.kv import KVBuffer
from kvcomm_core.masks import masks_of_one_token
from kvcomm_core.models.loading import LoadedModel

WIDTH = 512
"""Slots by which a width grows. For each row the KV of up to as many empty slots is read: 64 MB in Llama 3.1 8B, whose
weights are 16 GB. A choice, not measured."""
LEAST_STEPS = 8
"""Steps of an answer that may be worth a capture, which runs a handful of them."""
MOST_GRAPHS = 32

Logits = Callable[[LoadedModel, Tensor], Tensor]
"""From the hidden states of the last tokens ``[B, hidden size]`` to logits ``[B, vocabulary]``."""
Replay = Callable[[], Tensor]
"""Takes the step that the static tensors describe and returns its logits."""


class StaticStep:
    """One step with static shapes: the tensors it reads and writes, and what is done with them."""

    def __init__(self, model: LoadedModel, step: DecodeStep, buffer: KVBuffer, width: int, to_logits: Logits) -> None:
        self._model, self._step, self._to_logits = model, step, to_logits
        self.width, rows, device = width, buffer.rows, model.device
        self.stored = buffer.up_to(width)
        """The KV that it reads and writes; empty where a graph has its addresses."""
        self.ids_B, self.slots_B, self.positions_B = (
            torch.zeros(rows, dtype=torch.long, device=device) for _ in range(3)
        )
        self.visible_BC = torch.zeros((rows, width), dtype=torch.bool, device=device)

    @property
    def state(self) -> tuple[Tensor, ...]:
        """All that a step changes, but for the KV of its own slots, which the same step would write again."""
        return self.ids_B, self.slots_B, self.positions_B, self.visible_BC

    def set(self, state: Sequence[Tensor]) -> None:
        """Describe the next step."""
        for held, given in zip(self.state, state, strict=True):
            held.copy_(given)

    def run(self) -> Tensor:
        """Take the step and describe the one after it. Return logits ``[B, vocabulary]``."""
        self.visible_BC.scatter_(1, self.slots_B[:, None], True)
        masks = masks_of_one_token(self._model, self.visible_BC, self.positions_B[:, None])
        hidden_BE = self._step.run(self.ids_B, self.stored, self.slots_B, self.positions_B, masks)
        logits_BV = self._to_logits(self._model, hidden_BE)
        self.ids_B.copy_(logits_BV.argmax(dim=-1))
        self.slots_B += 1
        self.positions_B += 1
        return logits_BV


def capture_graph(static: StaticStep) -> Replay:
    """Capture a step as a CUDA graph. The static tensors stay as they are."""
    before = [tensor.clone() for tensor in static.state]
    side = torch.cuda.Stream(static.ids_B.device)
    side.wait_stream(torch.cuda.current_stream(static.ids_B.device))
    with torch.cuda.stream(side):  # libraries set themselves up in the first runs, which no graph may hold
        for _ in range(2):
            static.run()
            static.set(before)
    torch.cuda.current_stream(static.ids_B.device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # Graphs never run side by side, and nobody reads the logits of one after another has run.
    with torch.cuda.graph(graph, pool=_pool(static.ids_B.device)):
        logits_BV = static.run()
    static.stored = []  # the engine may free its buffer; another graph serves the next

    def replay() -> Tensor:
        graph.replay()
        return logits_BV

    return replay


@cache
def _pool(device: torch.device) -> Any:
    """Return the memory that the graphs of a device share."""
    with torch.cuda.device(device):
        return torch.cuda.graph_pool_handle()


CAPTURE: dict[str, Callable[[StaticStep], Replay]] = {"cuda": capture_graph}
"""The function that captures a step, by the type of the device."""


REFUSED = "refused"
"""The key, among the graphs of a step, of the reason why it has none."""


class CapturedSteps:
    """The steps of the answers of all rows of a buffer, which decode side by side."""

    def __init__(
        self, model: LoadedModel, step: DecodeStep, buffer: KVBuffer, visible_BC: Tensor | None, to_logits: Logits
    ) -> None:
        self._model, self._step, self._buffer, self._to_logits = model, step, buffer, to_logits
        self._visible_BC = visible_BC
        self._static: StaticStep | None = None
        self._replay: Replay | None = None

    def next(self, ids: Sequence[int], positions: Sequence[int], without_graph: Callable[[], Tensor]) -> list[int]:
        """Run one token per row in slot ``buffer.length``, and return the ids that follow.

        ``without_graph`` takes the same step and returns its logits. It checks a new graph, and replaces one that is
        refused.
        """
        if self._static is None or self._buffer.length >= self._static.width:
            self._replay = self._prepare(ids, positions, without_graph)
        if self._replay is None or self._static is None:
            chosen: list[int] = without_graph().argmax(dim=-1).tolist()
            return chosen
        self._replay()
        following: list[int] = self._static.ids_B.tolist()  # all that the host waits for
        return following

    def _prepare(
        self, ids: Sequence[int], positions: Sequence[int], without_graph: Callable[[], Tensor]
    ) -> Replay | None:
        """Return the graph for the current slot and those after it, which the static tensors now describe; None if
        there is none."""
        known, buffer, slot = self._step.captured, self._buffer, self._buffer.length
        if REFUSED in known:
            return None
        width = min(room_for(slot + 1), buffer.capacity)
        # All layers: other storage may begin at an address that was freed, with its layers farther apart.
        parts = [kv_BHCD for layer in buffer.layers for kv_BHCD in layer]
        place = (width, parts[0].shape[0], parts[0].stride(), *(kv_BHCD.data_ptr() for kv_BHCD in parts))
        found: tuple[StaticStep, Replay] | None = known.get(place)
        self._static = found[0] if found else StaticStep(self._model, self._step, buffer, width, self._to_logits)
        self._static.set(state := self._state(ids, positions, slot, width))
        if found:
            return found[1]
        if len(known) >= MOST_GRAPHS:
            known.clear()
        expected_BV = without_graph().clone()
        try:
            replay = CAPTURE[self._model.device.type](self._static)
            difference = float((replay() - expected_BV).norm() / expected_BV.norm())
        except RuntimeError as error:  # what cannot be captured shows only here
            known[REFUSED] = f"a graph of {len(ids)} rows and {width} slots cannot be captured: {one_line(error)}"
            return None
        self._static.set(state)
        if not difference <= LARGEST_DIFFERENCE[self._model.dtype]:  # also if it is not a number
            known[REFUSED] = f"a graph of {len(ids)} rows and {width} slots differs from the step by {difference:.1e}"
            return None
        known[place] = (self._static, replay)
        return replay

    def _state(self, ids: Sequence[int], positions: Sequence[int], slot: int, width: int) -> tuple[Tensor, ...]:
        device = self._model.device
        filled_BC = (torch.arange(width, device=device) < slot).expand(len(ids), width)
        if self._visible_BC is not None:
            filled_BC = filled_BC & self._visible_BC[:, :width]
        slots_B = torch.full((len(ids),), slot, device=device)
        return to_device(ids, device), slots_B, to_device(positions, device), filled_BC


def steps_of(
    model: LoadedModel, buffer: KVBuffer, visible_BC: Tensor | None, to_logits: Logits, most: int
) -> CapturedSteps | None:
    """Return the steps of answers of at most ``most`` tokens, or None if no graph is to take them."""
    step = model.step
    if step is None or step.is_watched or model.device.type not in CAPTURE or most < LEAST_STEPS:
        return None
    return CapturedSteps(model, step, buffer, visible_BC, to_logits)


def room_for(tokens: int) -> int:
    """Return the width that has room for so many tokens."""
    return -(-tokens // WIDTH) * WIDTH
