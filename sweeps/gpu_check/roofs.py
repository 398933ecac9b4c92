"""The roofline of a machine, measured, and the least time that a piece of work takes under it.

A roof counts only what no implementation can leave out: each weight and each needed number of KV once through memory,
and the products of a dense prefill. Launches, the vocabulary's softmax and activations are not in it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from kvcomm_core.models.loading import LoadedModel
from sweeps.gpu_check.figures import Bound

Roof = tuple[float, Bound]
"""Seconds, and what they are made of."""


@dataclass(frozen=True, slots=True)
class Roofs:
    """What a device can do, as measured."""

    bytes_per_s: float
    """Bytes read and written by a copy within the device's memory."""
    flops_per_s: float
    """Additions and multiplications of a square product in the model's dtype."""
    host_bytes_per_s: float | None
    """Bytes from pinned host memory to the device; None on a CPU."""


def measure_roofs(device: torch.device, dtype: torch.dtype) -> Roofs:
    """Measure a device, in about a second on a GPU."""
    on_gpu = device.type == "cuda"
    numbers, side = (1 << 29, 8192) if on_gpu else (1 << 24, 512)
    source = torch.zeros(numbers, dtype=torch.int16, device=device)
    target = torch.empty_like(source)
    copy_s = _fastest(lambda: target.copy_(source), device)
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    product_s = _fastest(lambda: a @ b, device)
    host = None
    if on_gpu:
        pinned = torch.zeros(numbers // 4, dtype=torch.int16).pin_memory()
        room = target[: numbers // 4]
        host = pinned.nbytes / _fastest(lambda: room.copy_(pinned, non_blocking=True), device)
    return Roofs(2 * source.nbytes / copy_s, 2 * side**3 / product_s, host)


def _fastest(work: Callable[[], object], device: torch.device, times: int = 5) -> float:
    seconds = []
    for _ in range(times + 1):
        synchronise(device)
        start = time.perf_counter()
        work()
        synchronise(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def synchronise(device: torch.device) -> None:
    """Wait for all that a device was given to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class ModelRoofs:
    """The roofs of one model on one device."""

    def __init__(self, model: LoadedModel, roofs: Roofs) -> None:
        config, network = model.network.config, model.network
        self._roofs, self.kv_bytes = roofs, model.layout.bytes_per_token
        self.size = model.dtype.itemsize
        """Bytes of a number."""
        # By their sizes: a matrix that a CPU has packed is no parameter any more.
        linears = [module for module in network.model.layers.modules() if hasattr(module, "in_features")]
        self._layer_numbers = sum(linear.in_features * linear.out_features for linear in linears)
        head = network.get_output_embeddings()
        self._head_numbers = head.in_features * head.out_features
        self._score_flops = 2 * config.num_hidden_layers * config.num_attention_heads * model.layout.head_dim

    @property
    def weight_bytes(self) -> int:
        """Bytes of all matrices that a token reads."""
        return int((self._layer_numbers + self._head_numbers) * self.size)

    def prefill(self, tokens: int) -> Roof:
        """Return the roof of a dense prefill of one prompt, up to the first token."""
        # Scores and their sums of values: 2 products, 2 flops each, over half of the pairs of tokens.
        flops = 2 * self._layer_numbers * tokens + self._score_flops * tokens**2 + 2 * self._head_numbers
        return self._larger(flops / self._roofs.flops_per_s, self.weight_bytes)

    def step(self, rows: int, tokens: int) -> Roof:
        """Return the roof of one token per row after ``tokens`` each."""
        return self._larger(0.0, self.weight_bytes + rows * tokens * self.kv_bytes)

    def reuse(self, prompt: int, estimated: int, terms: int, term_size: int, matched: int, prefilled: int) -> Roof:
        """Return the roof of a turn that reuses all but its last token.

        ``estimated`` tokens of the prompt have ``terms`` offsets of ``term_size`` bytes a number. ``matched`` counts
        the tokens of anchors whose values are compared, and ``prefilled`` those of a question that runs alone before.
        """
        kv = self.kv_bytes
        offsets = estimated * terms * kv * term_size / self.size
        # Base KV is read, the prompt's KV is written, and the last token reads that and the weights.
        moved = 2 * prompt * kv + offsets + matched * kv / 2 + self.weight_bytes + prompt * kv
        before_s = self.prefill(prefilled)[0] if prefilled else 0.0
        return before_s + moved / self._roofs.bytes_per_s, "memory"

    def _larger(self, product_s: float, moved_bytes: int) -> Roof:
        memory_s = moved_bytes / self._roofs.bytes_per_s
        return (product_s, "products") if product_s > memory_s else (memory_s, "memory")
