"""The cache of references: what it serves, what it must not serve, and how large it gets."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import tiny_model

from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.models.proof import ModelIdentity
from kvcomm_core.references.reference_files import ReferenceFiles
from kvcomm_core.template import Prompt, Span

NEW = 5


def prompt_of(*ids: int) -> Prompt:
    return Prompt(ids, (Span(0, 2), Span(len(ids) - 1, len(ids))), (Span(2, len(ids) - 1),))


PROMPTS = [prompt_of(3, 4, 8, 9, 7), prompt_of(3, 4, 11, 2, 6, 30, 7)]


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return replace(tiny_model(layers=6), identity=ModelIdentity(weights_digest="a" * 64))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch, model: LoadedModel) -> list[int]:
    """The number of prompts of each call that takes references."""
    from kvcomm_core.references import reference_files

    seen: list[int] = []
    take = reference_files.take_references

    def watched(model, prompts, max_new_tokens):
        if prompts:
            seen.append(len(prompts))
        return take(model, prompts, max_new_tokens)

    monkeypatch.setattr(reference_files, "take_references", watched)
    return seen


def test_a_reference_is_taken_once(model: LoadedModel, passes: list[int], tmp_path: Path) -> None:
    """Catches references in another order than the prompts, and a file read as something else than was written."""
    [first] = ReferenceFiles(model, tmp_path).of(PROMPTS[1:], NEW)
    references = ReferenceFiles(model, tmp_path).of(PROMPTS, NEW)
    again = ReferenceFiles(model, tmp_path).of(PROMPTS, NEW)
    assert passes == [1, 1]
    for one, other in zip([*references, references[1]], [*again, first], strict=True):
        assert one.answer == other.answer
        assert torch.equal(one.first_V, other.first_V)
        assert torch.equal(one.logits_NV, other.logits_NV)
    assert references[0].answer != references[1].answer


@pytest.mark.parametrize(
    "identity",
    [
        ModelIdentity(weights_digest="b" * 64),
        ModelIdentity(weights_digest="a" * 64, quantisation="int8"),
        ModelIdentity(weights_digest="a" * 64, config_digest="c" * 64),
    ],
)
def test_another_model_has_references_of_its_own(
    model: LoadedModel, passes: list[int], tmp_path: Path, identity: ModelIdentity
) -> None:
    """Catches references of other weights, and of another maximum length, served as these."""
    ReferenceFiles(model, tmp_path).of(PROMPTS, NEW)
    ReferenceFiles(replace(model, identity=identity), tmp_path).of(PROMPTS, NEW)
    [shorter, _] = ReferenceFiles(model, tmp_path).of(PROMPTS, NEW - 2)
    assert passes == [2, 2, 2]
    assert len(shorter.answer.token_ids) == NEW - 2


@pytest.mark.parametrize("content", [b"", b"not a file of tensors", None])
def test_a_damaged_file_is_taken_anew(
    model: LoadedModel, passes: list[int], tmp_path: Path, content: bytes | None
) -> None:
    """Catches a trial that ends because somebody cut off a file of the cache."""
    ReferenceFiles(model, tmp_path).of(PROMPTS[:1], NEW)
    [path] = tmp_path.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-8] if content is None else content)
    ReferenceFiles(model, tmp_path).of(PROMPTS[:1], NEW)
    ReferenceFiles(model, tmp_path).of(PROMPTS[:1], NEW)
    assert passes == [1, 1]


def test_the_files_used_longest_ago_go_first(model: LoadedModel, passes: list[int], tmp_path: Path) -> None:
    """Catches a cache without bound, and one that drops what it has just used."""
    prompts = [prompt_of(3, 4, 8, index, 7) for index in range(4)]
    ReferenceFiles(model, tmp_path).of(prompts[:3], NEW)
    size = max(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    for age, path in enumerate(tmp_path.glob("*.safetensors")):
        os.utime(path, (age, age))
    files = ReferenceFiles(model, tmp_path, largest=3 * size)
    files.of(prompts[:1], NEW)
    files.of(prompts[3:], NEW)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    files.of([prompts[0], prompts[3]], NEW)
    assert passes == [3, 1]


def test_a_model_without_a_digest_leaves_nothing(model: LoadedModel, passes: list[int], tmp_path: Path) -> None:
    """Catches random weights whose references somebody else's random weights would get."""
    files = ReferenceFiles(replace(model, identity=ModelIdentity()), tmp_path)
    files.of(PROMPTS, NEW)
    files.of(PROMPTS, NEW)
    assert passes == [2, 2]
    assert not list(tmp_path.iterdir())
