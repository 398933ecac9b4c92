"""The ``contexts`` probe: its measures against loops, and what must be 0."""

import math
from collections import defaultdict
from dataclasses import replace

import pytest
import torch
from tiny_models import tiny_chat_model, tiny_model

from harness.spec import TrialSpec
from harness.trials.probes.contexts import measure_offsets
from harness.trials.probes.probe_inputs import Sources
from harness.trials.runner import run_trial
from harness.workloads.probes import ContextsSpec
from kvcomm_core.models.loading import LoadedModel

SPEC = TrialSpec(workload=ContextsSpec(limit=3, tokens=4), agents=2)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return tiny_chat_model()


def test_measures_are_those_of_the_formulas() -> None:
    """Would catch norms over the wrong dimension, a base of another token, and neighbors out of step."""
    contexts, layers, tokens, width = 3, 2, 2, 5
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(layers, 2 * tokens, width, generator=generator)
    offsets = torch.randn(contexts, layers, 2 * tokens, width, generator=generator)
    got = measure_offsets(offsets, base)
    for c in range(contexts):
        for layer in range(layers):
            for n in range(tokens):
                own, other = offsets[c, layer, n].tolist(), offsets[c, layer, tokens + n].tolist()
                sizes = [math.hypot(*base[layer, index].tolist()) for index in (n, tokens + n)]
                assert got["offset"][c, layer, n] == pytest.approx(math.hypot(*own) / sizes[0], rel=1e-5)
                assert got["neighbor_offset"][c, layer, n] == pytest.approx(math.hypot(*other) / sizes[1], rel=1e-5)
                assert got["offset_difference"][c, layer, n] == pytest.approx(
                    math.dist(own, other) / (sum(sizes) / 2), rel=1e-5
                )


def test_a_trial(model: LoadedModel) -> None:
    """Would catch layer 0 with an offset, alignment that does nothing, a spread without the -1, and rows lost."""
    seen = []
    result = run_trial(SPEC, model, attempt=2, on_sample=lambda done, total: seen.append((done, total)))
    assert result.trial.error is None
    assert (result.turns, result.samples, result.trial.accuracy, result.trial.anchors_at_end) == ([], [], None, None)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    rows = result.kv_statistics
    # Three tensors (keys twice), three measures, mean and sd, two layers, four tokens.
    assert len({(r.part, r.aligned, r.measure, r.statistic, r.layer, r.token_index) for r in rows}) == 3 * 3 * 2 * 2 * 4
    assert len(rows) == 3 * 3 * 2 * 2 * 4
    assert {(r.trial_id, r.attempt, r.probe, r.n) for r in rows} == {(SPEC.trial_id, 2, "contexts", 3)}
    sizes: defaultdict[tuple[object, ...], list[float]] = defaultdict(list)
    for row in rows:
        assert row.value is not None
        sizes[row.part, row.aligned, row.layer, row.statistic].append(row.value)
    assert max(sizes["keys", True, 0, "mean"]) < 1e-5
    assert max(sizes["values", None, 0, "mean"]) < 1e-6
    assert min(sizes["keys", False, 0, "mean"]) > 1e-3
    assert min(sizes["keys", True, 1, "mean"]) > 1e-3
    assert min(sizes["values", None, 1, "sd"]) > 0


def test_equal_prefixes_have_no_spread_and_the_header_no_offset(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch offsets to something else than the base, and a spread over tokens instead of prefixes."""
    monkeypatch.setattr(Sources, "prefixes", lambda sources: [sources.header] * 3)
    rows = run_trial(SPEC, model).kv_statistics
    assert rows
    assert max(row.value or 0 for row in rows) < 1e-6


def test_tokens_and_their_neighbors(model: LoadedModel) -> None:
    """Would catch a token that is its own neighbor, and another token that is nearer, by comparing with all."""
    sources = Sources(SPEC, SPEC.workload, model)  # type: ignore[arg-type]
    rows = run_trial(SPEC, model).kv_statistics
    texts = {(row.measure, row.token_index): row.token_text for row in rows}
    for index in range(4):
        token, neighbor = (
            next(t for t in sources.vocabulary() if sources.text(t) == texts[measure, index])
            for measure in ("offset", "neighbor_offset")
        )
        away = {
            other: math.dist(sources.embeddings([token])[0].tolist(), sources.embeddings([other])[0].tolist())
            for other in sources.vocabulary()
            if other != token
        }
        assert away[neighbor] == min(away.values())


def test_what_it_cannot_do(model: LoadedModel) -> None:
    """Would catch fewer tokens than asked for, and a traceback from the depths for a model without text."""
    error = run_trial(replace(SPEC, workload=ContextsSpec(limit=2, tokens=500)), model).trial.error
    assert error is not None
    assert "workload.tokens is 500; allowed: 1 to " in error
    error = run_trial(SPEC, tiny_model()).trial.error
    assert error is not None
    assert "which has no tokenizer; the workload contexts is text" in error
    with pytest.raises(ValueError, match=r"workload\.limit is 1; allowed: 2 or more"):
        ContextsSpec(limit=1)
    with pytest.raises(ValueError, match=r"workload\.path is 'x'; allowed: null, with workload\.questions recall"):
        ContextsSpec(path="x")
    with pytest.raises(ValueError, match="method is 'kvcomm'; allowed: dense, with workload contexts"):
        replace(SPEC, method="kvcomm")
