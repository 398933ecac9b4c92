"""The kernel that places a segment: its values in Triton's interpreter, and its code for sm_90.

Triton is no dependency of this project: GPU builds of torch bring it. ``pip install triton`` brings it to a machine
without a GPU, too; elsewhere these tests say why they are skipped.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch

from kvcomm_core.blending import Term, place
from kvcomm_core.estimators import ElementWeights
from kvcomm_core.gpu import placing
from kvcomm_core.gpu.placing import KeyRotation, is_served, kernel, kind_of, place_part
from kvcomm_core.kv import KV
from kvcomm_core.packed import PackedKV, pack
from kvcomm_core.rope import Rope

triton = pytest.importorskip("triton", reason="needs the package triton, which GPU builds of torch bring")

DTYPES = [torch.float32, torch.bfloat16]
ROPES = {
    "halves": Rope(((1.0, 0.5, 0.1, 0.03, 0.02, 0.01),)),
    "neighbours": Rope(((1.0, 0.5, 0.1, 0.03, 0.02, 0.01),), pairs="neighbours"),
    "part of a head": Rope(((1.0, 0.5),)),
    "part of a head, neighbours": Rope(((1.0, 0.5, 0.1),), pairs="neighbours"),
    "by layer": Rope(((1.0, 0.5, 0.1, 0.03, 0.02, 0.01), (0.0,) * 6, (0.2,) * 6)),
}
LAYERS, HEADS, HEAD_DIM = 3, 2, 12


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the kernel run in Triton's interpreter, on the CPU."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    kernel.cache_clear()
    yield
    kernel.cache_clear()


def made(tokens: int, seed: int, dtype: torch.dtype, device: str = "cpu") -> KV:
    generator = torch.Generator().manual_seed(seed)
    shape = (LAYERS, HEADS, tokens, HEAD_DIM)
    keys, values = (torch.randn(shape, generator=generator).to(device, dtype) for _ in range(2))
    return KV((keys,), (values,))


def place_by_kernel(base: KV, terms: Sequence[tuple[PackedKV, float]], region: KV, rope: Rope, by: int) -> None:
    rotation = rope.rotation(by, region.keys[0].device)
    turn = KeyRotation(rotation.cos, rotation.sin, rope.pairs == "neighbours") if by else None
    for part, each in (("keys", turn), ("values", None)):
        out = getattr(region, part)[0]
        offsets = [offset.read(part, 0, slice(None), out.shape[2]) for offset, _ in terms]
        scales = [offset.scale(part, 0, slice(None)) for offset, _ in terms]
        assert is_served(getattr(base, part)[0], offsets, [weight for _, weight in terms], out)
        place_part(getattr(base, part)[0], offsets, scales, [weight for _, weight in terms], out, each)


def assert_equal_places(dtype: torch.dtype, rope: Rope, by: int, terms: int, storage: Any, device: str = "cpu") -> None:
    """Place one segment of 37 tokens both ways in a buffer of 50, and compare all of it."""
    base = made(40, 0, dtype, device)
    offsets = [pack(made(37 + number, number + 1, dtype, device), storage) for number in range(terms)]
    weights = torch.softmax(torch.arange(terms).float(), dim=0).tolist()
    expected, got = (made(50, 99, dtype, device) for _ in range(2))
    place(base, [Term(o, w) for o, w in zip(offsets, weights, strict=True)], expected.slice(6, 43), rope, by)
    place_by_kernel(base, list(zip(offsets, weights, strict=True)), got.slice(6, 43), rope, by)
    # The interpreter cuts numbers off to bfloat16 where PyTorch rounds them, which is up to one last digit.
    tolerance = {"rtol": 2**-7, "atol": 1e-5} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 2e-6}
    for x, y in zip(got.tensors, expected.tensors, strict=True):
        torch.testing.assert_close(x, y, **tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rope", ROPES)
def test_keys_are_turned_as_by_torch(interpreted: None, dtype: torch.dtype, rope: str) -> None:
    """Catches pairs mixed up, a sine of the wrong sign, dimensions that do not rotate and are lost, angles of another
    layer, tokens beyond the last block, and numbers outside of the region that are overwritten."""
    assert_equal_places(dtype, ROPES[rope], 7, 2, "model")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("terms", "storage"), [(0, "model"), (1, "model"), (5, "model"), (3, "int8")])
@pytest.mark.parametrize("by", [0, -3])
def test_terms_are_summed_as_by_torch(interpreted: None, dtype: torch.dtype, terms: int, storage: str, by: int) -> None:
    """Catches strides of another offset (each has its own length), a weight on the wrong one, scales of another head,
    sums in bfloat16, and a turn where there is none."""
    assert_equal_places(dtype, ROPES["halves"], by, terms, storage)


def test_float32_means_of_a_16_bit_model(interpreted: None) -> None:
    """Catches offsets that are read in the dtype of the base: running means are float32 for every model."""
    base, mean, region = made(9, 0, torch.bfloat16), made(9, 1, torch.float32), made(9, 2, torch.bfloat16)
    place_by_kernel(base, [(pack(mean), 1.0)], region, ROPES["halves"], 5)
    expected = made(9, 2, torch.bfloat16)
    place(base, [Term(pack(mean), 1.0)], expected, ROPES["halves"], 5)
    for x, y in zip(region.tensors, expected.tensors, strict=True):
        torch.testing.assert_close(x, y, rtol=2**-7, atol=1e-5)


def test_what_is_left_to_torch() -> None:
    """Catches numbers that the kernel would read wrongly: weights by element, several dtypes, and a stride."""
    base, offset, out = (made(4, seed, torch.float32).keys[0] for seed in range(3))
    by_element = ElementWeights((torch.ones(1),), (torch.ones(1),))
    assert is_served(base, [offset, offset], [0.5, 0.5], out)
    assert not is_served(base, [offset], [by_element], out)
    assert not is_served(base, [offset, offset.half()], [0.5, 0.5], out)
    assert not is_served(base.transpose(2, 3), [], [], out)
    assert not is_served(base[..., :11], [], [], out[..., :11])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_kernel_is_used_once_it_was_right(interpreted: None, dtype: torch.dtype, monkeypatch: Any) -> None:
    """Catches a kernel that is trusted unseen: one that writes other numbers, one that writes none, and one that cannot
    be compiled, which must not end a trial."""
    device = torch.device("cpu")
    placing.is_right.cache_clear()
    assert placing.is_right(device, dtype)
    real = placing.place_part
    for wrong in (
        lambda base, offsets, scales, weights, out, turn: real(base, offsets, scales, weights, out, None),
        lambda base, offsets, scales, weights, out, turn: real(base, [], [], [], out, turn),
        lambda *_: None,
        lambda *_: 1 / 0,
    ):
        placing.is_right.cache_clear()
        monkeypatch.setattr(placing, "place_part", wrong)
        with pytest.warns(UserWarning, match="segments are placed without the kernel"):
            assert not placing.is_right(device, dtype)
    placing.is_right.cache_clear()


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("rotates", [False, True])
def test_it_compiles_for_hopper(kind: torch.dtype, rotates: bool) -> None:
    """Catches code that the interpreter takes and the compiler does not, for bfloat16 KV of heads of 128. No GPU is
    needed to compile, and none is asked."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    assert "TRITON_INTERPRET" not in os.environ
    kernel.cache_clear()
    jitted = kernel()
    constants = {"KIND": kind_of(kind), "SCALED": kind == torch.int8, "ROTATES": rotates, "BLOCK_T": 32, "BLOCK_P": 64}
    pointers = {"base": "*bf16", "out": "*bf16", "table": "*i64", "weights": "*fp32", "cos": "*fp32", "sin": "*fp32"}
    signature = {name: "constexpr" if name in constants else pointers.get(name, "i32") for name in jitted.arg_names}
    source = ASTSource(jitted, signature=signature, constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    assert ".target sm_90" in compiled.asm["ptx"]
    assert len(compiled.asm["cubin"]) > 1000


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("terms", "storage"), [(0, "model"), (20, "model"), (20, "int8")])
def test_on_a_gpu_both_ways_agree(dtype: torch.dtype, terms: int, storage: str, monkeypatch: Any) -> None:
    """Catches what only hardware shows: an address that is freed too early, a race, and a launch that is refused."""
    assert placing.is_right(torch.device("cuda", 0), dtype)
    monkeypatch.setattr(placing, "is_right", lambda *_: False)  # for ``place``, which is to take torch's way
    for rope in ROPES.values():
        assert_equal_places(dtype, rope, 7, terms, storage, "cuda")
