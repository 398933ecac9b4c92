"""GGUF files as safetensors: the same weights that transformers reads, in little memory, and never a damaged folder."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_files import write_gguf
from transformers import AutoModelForCausalLM

from kvcomm_core.models import conversion
from kvcomm_core.models.conversion import MANIFEST, convert, converted
from kvcomm_core.models.gguf_header import read_header
from kvcomm_core.models.loading import load_model
from kvcomm_core.models.model_files import sha256_of
from kvcomm_core.models.model_source import check_model, kv_shape


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_weights_are_those_that_transformers_reads(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a tensor under another's name, rows of a head in llama.cpp's order, and blocks cut in the middle."""
    monkeypatch.setattr(conversion, "_CHUNK_VALUES", 3000)  # several chunks and files, the last ones short
    monkeypatch.setattr(conversion, "SHARD_BYTES", 300_000)
    path = tmp_path / "tiny.gguf"
    write_gguf(path, architecture)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32)
    (tmp_path / "out").mkdir()
    convert(path, tmp_path / "out")
    ours, loading = AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", dtype=torch.float32, output_loading_info=True, use_safetensors=True
    )
    assert not any(loading.values())
    expected = dict(theirs.named_parameters())
    assert dict(ours.named_parameters()).keys() == expected.keys()
    for name, weights in ours.named_parameters():
        assert torch.equal(weights, expected[name]), name
    assert len(list((tmp_path / "out").glob("model-*.safetensors"))) > 3
    kept = {key: value for key, value in ours.config.to_dict().items() if not key.startswith("_")}
    read = {key: value for key, value in theirs.config.to_dict().items() if not key.startswith("_")}
    for differs in ("quantization_config", "dtype", "architectures"):
        kept.pop(differs, None), read.pop(differs, None)
    assert kept == read
    assert ours.generation_config.eos_token_id == 259


@pytest.mark.parametrize(
    ("architecture", "shape"), [("llama", (2, 2, 64)), ("qwen2", (2, 2, 64)), ("qwen3", (2, 1, 128))]
)
def test_the_header_tells_the_shape_of_kv(architecture: str, shape: tuple[int, int, int], tmp_path: Path) -> None:
    """Would catch a head size computed from the width where the file states it, and torch loaded for it."""
    path = tmp_path / "tiny.gguf"
    write_gguf(path, architecture)
    check_model(str(path))
    assert kv_shape(str(path)) == shape
    header = read_header(path)
    assert header.config()["tie_word_embeddings"] == (architecture != "qwen2")
    assert header.has_chat_template


def test_a_damaged_conversion_is_made_again_and_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Would catch weights with a flipped bit that pass for the model, and a folder of an earlier version trusted."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "tiny.gguf"
    write_gguf(path)
    sha256 = sha256_of(path)
    folder = converted(path, sha256)
    whole = {file.name: file.read_bytes() for file in folder.iterdir()}
    times = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert converted(path, sha256) == folder
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == times, "a whole one is left alone"
    weights = "model-00001.safetensors"
    flipped = bytearray(whole[weights])
    flipped[-1] ^= 1
    damages = {
        "has changed": {weights: bytes(flipped)},
        f"{weights} has changed": {weights: whole[weights][:-1000]},
        f"{weights} is missing": {weights: None},
        "tokenizer.json has changed": {"tokenizer.json": b"{}"},
        "was not made by the conversion": {"model.safetensors": whole[weights]},
        "No such file": {MANIFEST: None},  # as before there were manifests
        "not valid JSON": {MANIFEST: b"{"},
        "another version": {MANIFEST: json.dumps({"format": 0, "sha256": {}}).encode()},
    }
    for reason, files in damages.items():
        for name, content in files.items():
            (folder / name).unlink(missing_ok=True)
            if content is not None:
                (folder / name).write_bytes(content)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "kvcomm_core.models.conversion"):
            assert converted(path, sha256) == folder
        [record] = [record for record in caplog.records if record.name == "kvcomm_core.models.conversion"]
        assert reason in record.getMessage()
        assert str(folder) in record.getMessage()
        assert "\n" not in record.getMessage()
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == whole
    assert not list(folder.parent.glob(".converting-*"))


def test_a_gguf_file_is_known_by_its_own_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a digest of the conversion, which nobody else could compare with the file they have."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "tiny.gguf"
    write_gguf(path)
    model = load_model(str(path), device="cpu")
    assert model.identity.weights_digest == sha256_of(path)
    assert model.identity.commit is None
    assert model.identity.tokenizer_digest is not None
    assert model.identity.template_digest is not None
    assert model.eos_ids == {259}


def test_a_token_that_transformers_invents_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a question with GPT-2's end mark in it that becomes an id beyond the embedding of a Llama 3."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "tiny.gguf"
    write_gguf(path, marks=("<|begin_of_text|>", "<|eot_id|>"))
    model = load_model(str(path), device="cpu")
    ids = model.tokenizer("the <|endoftext|>", add_special_tokens=False).input_ids  # type: ignore[misc]  # it has one
    assert max(ids) < model.network.config.vocab_size
    assert model.tokenizer.decode(ids) == "the <|endoftext|>"  # type: ignore[union-attr]
    assert model.eos_ids == {258}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_conversion_needs_little_memory(tmp_path: Path) -> None:
    """Would catch the quantised model, a fresh one and a state dict side by side: three times the result.

    The whole process counts, torch and transformers with it.
    """
    code = (
        "import sys; from pathlib import Path; from kvcomm_core.models.conversion import convert\n"
        "from kvcomm_core.models.model_source import find_model\n"
        "convert(Path(find_model('embedded').location), Path(sys.argv[1]))\n"
        "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    result = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert 1024 * int(done.stdout) <= 1.3 * result
