"""Decoding with static shapes, as a graph is captured of it: run step by step on a CPU, and captured where there is a
GPU."""

import gc
import math
import weakref
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from tiny_families import VARIANTS, tiny_family
from tiny_models import tiny_model

from kvcomm_core.decode import advance, decode_greedily, to_logits
from kvcomm_core.fused import layers
from kvcomm_core.fused.layers import FAMILIES
from kvcomm_core.gpu import captured_steps
from kvcomm_core.gpu.captured_steps import REFUSED, Replay, StaticStep, steps_of
from kvcomm_core.kv import KVBuffer
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import TokenIds

CASES = [(family, variant) for family in FAMILIES for variant in VARIANTS[family]]
PROMPTS = ((5, 11, 2, 60, 33, 8, 91, 17), (44, 3, 9), (7, 7, 80, 12, 1))
NEW = 24
Captured = list[StaticStep]


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Captured]:
    """Let a CPU decode as a GPU does, with the step itself in place of a graph; the steps that were captured."""
    found: Captured = []

    def capture(static: StaticStep) -> Replay:
        before = [tensor.clone() for tensor in static.state]
        static.run()  # as a graph's first runs do
        static.set(before)
        found.append(static)
        return static.run

    monkeypatch.setitem(captured_steps.CAPTURE, "cpu", capture)
    monkeypatch.setattr(captured_steps, "WIDTH", 8)
    yield found
    found.clear()


def decoded(model: LoadedModel, buffer: KVBuffer | None = None, device: str = "cpu") -> tuple[list[TokenIds], KVBuffer]:
    """Answers to three prompts of different lengths, side by side, and the buffer with their KV."""
    longest, rows = max(map(len, PROMPTS)), len(PROMPTS)
    buffer = buffer or KVBuffer(model.layout, rows, longest + NEW)
    buffer.length = 0
    first = to_logits(model, advance(model, PROMPTS, buffer)).argmax(dim=-1).tolist()
    buffer.length = longest
    lengths = torch.tensor([len(prompt) for prompt in PROMPTS], device=device)
    slots = torch.arange(buffer.capacity, device=device)
    visible_BC = (slots[None] < lengths[:, None]) | (slots[None] >= longest)
    answers = decode_greedily(
        model, first, buffer, positions=lengths.tolist(), visible_BC=visible_BC, max_new_tokens=NEW, eos_ids=()
    )
    return [answer.token_ids for answer in answers], buffer


@pytest.mark.parametrize(("family", "variant"), CASES)
def test_static_steps_decode_the_same(family: str, variant: str, captured: Captured) -> None:
    """Catches a mask that shows a gap or an empty slot, a window counted in slots, a position or slot that does not
    move on, and state that is lost where the width grows."""
    model = tiny_family(family, variant)
    assert model.step is not None
    model.step.captured.clear()
    got, buffer = decoded(model)
    assert [static.width for static in captured] == [16, 24, 32]
    captured_steps.CAPTURE.pop("cpu")
    expected, expected_buffer = decoded(model)
    assert got == expected
    for row, prompt in enumerate(PROMPTS):
        for start, stop in ((0, len(prompt)), (8, buffer.length)):
            views = buffer.view(start, stop, row), expected_buffer.view(start, stop, row)
            for x, y in zip(*(view.tensors for view in views), strict=True):
                torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


def test_graphs_are_kept_while_they_fit(captured: Captured) -> None:
    """Catches a capture per answer, which takes longer than the answer, and a graph whose addresses are those of
    another buffer."""
    model = tiny_model()
    answers, buffer = decoded(model)
    assert len(captured) == 3
    assert decoded(model, buffer)[0] == answers
    assert len(captured) == 3
    assert decoded(model, KVBuffer(model.layout, len(PROMPTS), 40))[0] == answers
    assert len(captured) == 6


def test_storage_at_a_freed_address_is_other_storage(captured: Captured) -> None:
    """Catches a graph for rows of larger storage, replayed where smaller storage begins at the same address: only the
    first layer's keys are where they were."""
    model, rows, capacity = tiny_model(), len(PROMPTS), 40
    larger = KVBuffer(model.layout, 2 * rows, capacity)
    answers, _ = decoded(model, KVBuffer.within(larger, slice(0, rows), capacity))
    assert len(captured) == 3
    [storage] = larger._groups
    shape = (*storage.shape[:2], rows, *storage.shape[3:])
    smaller = KVBuffer.__new__(KVBuffer)
    smaller._use(model.layout, (storage.flatten()[: math.prod(shape)].view(shape),))
    assert decoded(model, smaller)[0] == answers
    assert len(captured) == 6


def test_a_graph_that_differs_is_refused(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a graph that is trusted: wrong logits must lead to the answer of the step, and to no second try."""
    model = tiny_model()
    expected = decoded(replace(model, step=None))[0]

    def wrong(static: StaticStep) -> Replay:
        captured.append(static)
        return lambda: static.run() + torch.nan

    monkeypatch.setitem(captured_steps.CAPTURE, "cpu", wrong)
    assert decoded(model)[0] == expected
    assert decoded(model)[0] == expected
    assert len(captured) == 1
    assert model.step is not None
    assert model.step.captured[REFUSED] == "a graph of 3 rows and 16 slots differs from the step by nan"


def test_a_step_that_cannot_be_captured(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a capture whose failure ends the trial, and one that is tried again for each answer."""
    model = tiny_model()
    expected = decoded(replace(model, step=None))[0]

    def fails(static: StaticStep) -> Replay:
        captured.append(static)
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    monkeypatch.setitem(captured_steps.CAPTURE, "cpu", fails)
    assert decoded(model)[0] == decoded(model)[0] == expected
    assert len(captured) == 1
    assert model.step is not None
    assert str(model.step.captured[REFUSED]).endswith("captured: operation not permitted when stream is capturing")


def test_when_no_graph_is_asked_for(captured: Captured) -> None:
    """Catches graphs for answers of a few tokens, on a CPU, beside hooks that nobody would call, and without a step."""
    model = tiny_model()
    buffer = KVBuffer(model.layout, 1, 16)

    def wanted(model: LoadedModel, most: int) -> bool:
        return steps_of(model, buffer, None, to_logits, most) is not None

    assert wanted(model, 8)
    assert not wanted(model, 7)
    assert not wanted(replace(model, step=None), 8)
    hook = model.network.model.register_forward_hook(lambda *_: None)
    assert not wanted(model, 8)
    hook.remove()
    captured_steps.CAPTURE.pop("cpu")
    assert not wanted(model, 8)


def test_graphs_do_not_keep_a_model(captured: Captured) -> None:
    """Catches gigabytes of weights that stay on the GPU after a replica has loaded another model."""
    model = tiny_model()
    decoded(model)
    network = weakref.ref(model.network)
    captured.clear()
    del model
    gc.collect()
    assert network() is None


@pytest.fixture
def plain_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "PLAIN_ON", ("cuda", "cpu"))


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3"])
def test_a_16_bit_model_has_a_step_where_its_layers_are_plain(plain_layers: None, model_type: str) -> None:
    """Catches a model in bfloat16, as a GPU has it, that is not fused, or fused with a bias or a dtype lost."""
    model = tiny_model(model_type, dtype=torch.bfloat16)
    assert model.decoding == "fused"
    assert tiny_model(model_type).decoding == "fused", "nor do float32 layers lose theirs"


def on_gpu(dtype: torch.dtype) -> LoadedModel:
    with torch.device("cuda"):
        return tiny_model(dtype=dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_captured_graph_decodes_what_the_step_decodes(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches what only a capture shows: an operation that cannot be captured, a tensor made anew in each step, and
    memory of a graph that is given away."""
    monkeypatch.setattr(captured_steps, "WIDTH", 8)
    model = on_gpu(dtype)
    assert model.decoding == "fused"
    answers, buffer = decoded(model, device="cuda")
    assert model.step is not None
    assert REFUSED not in model.step.captured, model.step.captured
    assert len(model.step.captured) == 3
    assert decoded(model, buffer, "cuda")[0] == answers
    if dtype == torch.float32:
        monkeypatch.delitem(captured_steps.CAPTURE, "cuda")
        assert decoded(model, device="cuda")[0] == answers
