"""The ``offsets`` probe: its summaries against numpy, and its offsets against true minus base KV, taken apart."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import tiny_chat_model

from harness.memory import MemoryMeter
from harness.spec import TrialSpec
from harness.trials.conversation import FILLER
from harness.trials.probes.offsets import (
    BY_DIMENSION,
    BY_LAYER,
    by_dimension,
    by_layer,
    collect_offsets,
    hold_conversation,
    quantiles,
)
from harness.trials.runner import run_trial
from harness.trials.trial_run import TrialRun
from harness.workloads.probes import OffsetsSpec
from kvcomm_core.models.loading import LoadedModel

SPEC = TrialSpec(workload=OffsetsSpec(limit=3), agents=3, max_new_tokens=5)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return tiny_chat_model()


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=30), st.floats(0, 1))
def test_quantiles_are_numpys(numbers: list[float], share: float) -> None:
    """Would catch another interpolation, and a place off by one at either end."""
    got = quantiles(torch.tensor(numbers, dtype=torch.float64)[:, None], (share,))
    assert got[0, 0] == pytest.approx(np.quantile(numbers, share), abs=1e-9, rel=1e-9)


def test_summaries_are_over_the_right_numbers() -> None:
    """Would catch layers and dimensions mixed up, layer 0 among the others, samples weighed by their number instead of
    their tokens, and columns lost between two chunks."""
    generator = torch.Generator().manual_seed(0)
    samples = [torch.randn(3, tokens, 70, generator=generator) * (1 + torch.arange(70)) for tokens in (2, 5)]
    together = torch.cat(samples, dim=1).numpy()
    layers, dimensions = by_layer(samples), by_dimension(samples)
    for share in BY_LAYER:
        assert layers[f"q{100 * share:02.0f}"] == pytest.approx(
            list(np.quantile(together, share, axis=(1, 2))), rel=1e-4
        )
    for share in BY_DIMENSION:
        expected = list(np.quantile(together[1:], share, axis=(0, 1)))
        assert dimensions[f"q{100 * share:02.0f}"] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert layers["rms"] == pytest.approx(list(np.sqrt((together**2).mean(axis=(1, 2)))), rel=1e-5)
    assert dimensions["rms"] == pytest.approx(list(np.sqrt((together[1:] ** 2).mean(axis=(0, 1)))), rel=1e-5)
    assert by_dimension([samples[0][:1]]) == {}


@torch.inference_mode()
def test_offsets_are_true_minus_base(model: LoadedModel) -> None:
    """Against forward passes of the first agent's prompts. Would catch a turn that reused something, whose prompt is
    not true KV; keys in the frame of the prompt; placeholder and text mixed up; and a sample left out."""
    conversation = hold_conversation(TrialRun(spec=SPEC, loaded=model, memory=MemoryMeter([model.device])))
    found = {
        (place.kind, place.part): samples
        for place, samples in collect_offsets(conversation.method).items()  # type: ignore[arg-type]
        if place.agent == 1
    }
    template, header = conversation.engine.templates["1"], conversation.method.segments._header_ids  # type: ignore[attr-defined]
    items = SPEC.workload.load(SPEC.seed)
    assert len(items) == 3

    def kv(ids: tuple[int, ...], start: int, stop: int) -> dict[str, torch.Tensor]:
        cache = model.network(torch.tensor([ids]), use_cache=True).past_key_values
        keys = torch.stack([layer.keys[0, :, start:stop] for layer in cache.layers])
        values = torch.stack([layer.values[0, :, start:stop] for layer in cache.layers])
        local = model.rope.move(keys, -start)
        return {"keys": local.transpose(1, 2).flatten(2), "values": values.transpose(1, 2).flatten(2)}

    filled = template.fill({"user_question": conversation.encode(FILLER)})
    for number, item in enumerate(items):
        question = conversation.encode(item.question)
        prompt = template.fill({"user_question": question})
        alone = kv((*header, *question), len(header), len(header) + len(question))
        text = kv(filled.token_ids, filled.texts[1].start, filled.texts[1].stop)
        for kind, span, base in (("placeholder", prompt.holes[0], alone), ("text", prompt.texts[1], text)):
            true = kv(prompt.token_ids, span.start, span.stop)
            for part in ("keys", "values"):
                expected = true[part] - base[part]
                torch.testing.assert_close(found[kind, part][number], expected, atol=2e-4, rtol=1e-3)
                assert expected[0].abs().max() < 1e-4, "layer 0 sees no context"
                assert expected[1].abs().max() > 1e-2


def test_a_trial(model: LoadedModel) -> None:
    """Would catch an agent, a kind or a part left out, counts that are not theirs, and turns that count as results."""
    result = run_trial(SPEC, model, attempt=3)
    assert result.trial.error is None
    assert (result.turns, result.samples, result.anchors, result.trial.anchors_at_end) == ([], [], [], None)
    rows = result.kv_statistics
    by_place = Counter((row.agent_index, row.kind, row.part) for row in rows)
    kinds = [(kind, part) for kind in ("placeholder", "text") for part in ("keys", "values")]
    assert set(by_place) == {(agent, *kind) for agent in (1, 2, 3) for kind in kinds}
    assert set(by_place.values()) == {2 * 6 + 32 * 4}
    tokens = sum(len(model.tokenizer(i.question, add_special_tokens=False).input_ids) for i in SPEC.workload.load(0))  # type: ignore[misc]
    own = [row for row in rows if (row.agent_index, row.kind, row.part) == (1, "placeholder", "keys")]
    assert {row.n for row in own if row.layer is not None} == {tokens * 32}
    assert {row.n for row in own if row.dimension is not None} == {tokens}
    assert all((row.layer is None) != (row.dimension is None) for row in rows)
    assert max(abs(row.value or 0) for row in rows if row.layer == 0) < 1e-4
    assert [row.value for row in run_trial(SPEC, model).kv_statistics] == [row.value for row in rows]


def test_what_it_needs() -> None:
    """Would catch options that mean nothing here being taken silently."""
    with pytest.raises(ValueError, match=r"fidelity is 1\.0; allowed: 0, with workload offsets"):
        replace(SPEC, fidelity=1.0)
    with pytest.raises(ValueError, match=r"workload\.limit is 0; allowed: 1 or more"):
        OffsetsSpec(limit=0)
