"""Blend, rotate and write one segment in one kernel, on a GPU with Triton.

PyTorch takes a kernel per offset, each of which reads and writes the float32 sum, and four more to rotate. The kernel
keeps the sum in registers, so that base and offsets are read once and the prompt's KV is written once. Sums and
rotations are in float32 as they are in PyTorch, which serves what the kernel does not: weights that differ from element
to element, offsets of several dtypes, and numbers that are not side by side.

It has not run on a GPU yet. Tests compare its values with PyTorch's in Triton's interpreter, and compile it for sm_90.
On each device it is used only once it has been right there (:func:`is_right`).
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from kvcomm_core.devices.transfers import send, to_device

BLOCK_TOKENS = 32
"""Tokens of a block. With 64 pairs, a thread of four warps has 16 numbers of each half. A choice, not measured."""


@dataclass(frozen=True, slots=True)
class KeyRotation:
    """A rotation of the first ``2 * pairs`` dimensions of keys."""

    cos: Tensor
    """``[R]`` for all layers or ``[L, 1, 1, R]``, float32, each pair's cosine at both of its dimensions."""
    sin: Tensor
    """``[R/2]`` or ``[L, 1, 1, R/2]``, float32."""
    neighbours: bool
    """Whether pairs are (2i, 2i + 1) and not (i, i + R/2)."""


@cache
def has_triton() -> bool:
    """Return whether Triton is installed."""
    return find_spec("triton") is not None


@cache
def is_right(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether the kernel is there and gives, for one small segment, what it should; found out once per device
    and dtype. Where it fails, a warning says so, and PyTorch places all segments."""
    if not has_triton():
        return False
    numbers = torch.linspace(-2, 2, 2 * 3 * 5 * 16).view(2, 3, 5, 16)
    base, offset = numbers.to(device, dtype), numbers.flip(0, 3).to(device, dtype)
    angle = torch.linspace(0.1, 3, 8, device=device)
    out, cos, sin = torch.zeros_like(base), angle.cos(), angle.sin()
    total = base.float() + 0.5 * offset.float()
    a, b = total[..., :8], total[..., 8:]
    expected = torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
    try:
        place_part(base, [offset], [None], [0.5], out, KeyRotation(torch.cat([cos, cos]), sin, neighbours=False))
        difference = float((out.float() - expected).abs().max())
    except Exception as error:  # noqa: BLE001 - a compiler and a driver may raise anything
        warnings.warn(f"segments are placed without the kernel, which failed: {error}", stacklevel=2)
        return False
    allowed = 4 * torch.finfo(dtype).eps * float(expected.abs().max())
    if not difference <= allowed:
        warnings.warn(f"segments are placed without the kernel, which is wrong by {difference:.1e}", stacklevel=2)
    return difference <= allowed


def is_served(base: Tensor, offsets: Sequence[Tensor], weights: Sequence[object], out: Tensor) -> bool:
    """Return whether the kernel can place this segment, ``[L, H, T, D]`` each."""
    tensors = (base, *offsets, out)
    return (
        all(isinstance(weight, float) for weight in weights)
        and len({offset.dtype for offset in offsets}) <= 1
        and all(tensor.stride(-1) == 1 and tensor.shape[-1] % 2 == 0 for tensor in tensors)
        and all(tensor.device == out.device for tensor in tensors)
    )


def place_part(
    base: Tensor,
    offsets: Sequence[Tensor],
    scales: Sequence[Tensor | None],
    weights: Sequence[float],
    out: Tensor,
    rotation: KeyRotation | None,
) -> None:
    """Write the keys or the values of a segment that :func:`is_served` to ``out``, ``[L, H, T, D]``.

    ``base`` and ``offsets`` have at least T tokens. ``scales`` are ``[L, H, 1, D]`` float32, or all None. Without a
    ``rotation`` nothing rotates.
    """
    layers, heads, tokens, head_dim = out.shape
    # Kept until the launch: the table holds addresses, which the allocator may give away.
    scaled = [scale.contiguous() for scale in scales if scale is not None]
    addresses = [scale.data_ptr() for scale in scaled] or [0] * len(offsets)
    rows = [[x.data_ptr(), *x.stride()[:3], address] for x, address in zip(offsets, addresses, strict=True)]
    table = to_device(rows or [[0] * 5], out.device)
    factors = send(torch.tensor([*weights] or [0.0], dtype=torch.float32), out.device)
    rotated = 0 if rotation is None else rotation.cos.shape[-1]
    spans: list[tuple[int, int, KeyRotation | None]] = [(0, rotated, rotation), (rotated, head_dim, None)]
    for start, stop, each in spans:
        if start == stop:
            continue
        pairs = (stop - start) // 2
        step, gap = (2, 1) if each is not None and each.neighbours else (1, pairs)
        cos, sin = (factors, factors) if each is None else (each.cos, each.sin)
        grid = (-(-tokens // BLOCK_TOKENS), layers * heads)
        kernel()[grid](
            base,
            *base.stride()[:3],
            out,
            *out.stride()[:3],
            table,
            factors,
            len(offsets),
            cos,
            cos.stride(0) if cos.dim() > 1 else 0,
            sin,
            sin.stride(0) if sin.dim() > 1 else 0,
            heads,
            head_dim,
            tokens,
            pairs,
            start,
            step,
            gap,
            KIND=kind_of(offsets[0].dtype if offsets else out.dtype),
            SCALED=bool(scaled),
            ROTATES=each is not None,
            BLOCK_T=BLOCK_TOKENS,
            BLOCK_P=1 << (pairs - 1).bit_length(),
        )


@cache
def kernel() -> Any:
    """Return the kernel, ready to be launched, or Triton's interpreter of it if ``TRITON_INTERPRET`` is set."""
    import triton

    from kvcomm_core.gpu.placing_kernel import place_segment

    # Prompts differ in length from turn to turn. Lengths of 1 or a multiple of 16 would each be compiled anew.
    return triton.jit(place_segment, do_not_specialize=["tokens", "terms", "start"])


def kind_of(dtype: torch.dtype) -> Any:
    """Return Triton's name for a dtype that offsets may have."""
    import triton.language as tl

    kinds = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16, torch.int8: tl.int8}
    return kinds[dtype]
