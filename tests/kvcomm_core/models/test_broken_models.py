"""Broken models: each has one damage, and is refused with one line that names it, in planning or at loading.

transformers serves some of them without a word, on random weights or with answers that never end. Others end in a
traceback, or in a loop that a hostile length sends it into.
"""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_files import save_folder, write_gguf

from kvcomm_core.models.loading import load_model
from kvcomm_core.models.model_config import ModelError
from kvcomm_core.models.model_source import check_chat_template, check_model

Damage = Callable[[Path], None]
Stage = Literal["plan", "load"]
CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000


def content(name: str, new: bytes) -> Damage:
    """A file with that in it."""
    return lambda folder: _put(folder / name, new)


def fields(name: str, **new: Any) -> Damage:
    """A JSON file with other values."""
    return lambda folder: _put(folder / name, json.dumps(json.loads((folder / name).read_text()) | new).encode())


def shorter(name: str, by: int) -> Damage:
    """A file without its end."""
    return lambda folder: _put(folder / name, (folder / name).read_bytes()[:-by])


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    """Other weights."""

    def damage(folder: Path) -> None:
        weights = load_file(folder / WEIGHTS)
        change(weights)
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})

    return damage


def indexed(weight_map: Any) -> Damage:
    """An index in place of the one file, which is renamed."""

    def damage(folder: Path) -> None:
        (folder / WEIGHTS).rename(folder / "part.safetensors")
        _put(folder / "model.safetensors.index.json", json.dumps({"weight_map": weight_map}).encode())

    return damage


def _put(path: Path, new: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(new)


def _set(name: str, value: float) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda weights: weights[name].view(-1)[3:4].fill_(value)


NORM, GATE = "model.norm.weight", "model.layers.1.mlp.gate_proj.weight"
FOLDERS: dict[str, tuple[Damage, Stage, str]] = {
    "config that is no JSON": (content(CONFIG, b"{"), "plan", "config.json: not valid JSON"),
    "config that is a list": (content(CONFIG, b"[]"), "plan", "holds a list; allowed: a JSON object"),
    "config with a byte order mark": (content(CONFIG, b"\xef\xbb\xbf{}"), "plan", "Unexpected UTF-8 BOM"),
    "config in Latin-1": (content(CONFIG, b'{"a": "\xe9"}'), "plan", "not UTF-8 text (byte 7)"),
    "config nested deeply": (content(CONFIG, DEEP), "plan", "config.json: not valid JSON (nested more than 50 levels"),
    "config with NaN": (content(CONFIG, b'{"rms_norm_eps": NaN}'), "plan", "NaN is no JSON"),
    "config with a number of 5,000 digits": (content(CONFIG, b'{"a": ' + b"9" * 5000 + b"}"), "plan", "not valid JSON"),
    "layers by the billion": (fields(CONFIG, num_hidden_layers=10**30), "plan", "num_hidden_layers is 1000"),
    "a size in words": (fields(CONFIG, hidden_size="64"), "plan", "hidden_size is '64'; allowed: 1 to"),
    "no size": (fields(CONFIG, num_attention_heads=None), "plan", "num_attention_heads is None; allowed: 1 to"),
    "heads that do not divide": (fields(CONFIG, num_key_value_heads=3), "plan", "is 3; allowed: a divisor of"),
    "a type that is a list": (fields(CONFIG, model_type=["llama"]), "plan", "model_type is ['llama']; allowed: llama,"),
    "RoPE in words": (fields(CONFIG, rope_parameters="yarn"), "plan", "rope_parameters is 'yarn'; allowed: an object"),
    "RoPE of a negative base": (
        fields(CONFIG, rope_parameters={"rope_theta": -1}),
        "plan",
        "rope_theta is -1; allowed",
    ),
    "an activation nobody knows": (fields(CONFIG, hidden_act="nonsense"), "load", "cannot be loaded: KeyError"),
    "generation_config that is no JSON": (content("generation_config.json", b"x"), "plan", "generation_config.json: "),
    "an end token nobody knows": (fields("generation_config.json", eos_token_id=9999), "plan", "eos_token_id is 9999"),
    "an end token in words": (
        fields("generation_config.json", eos_token_id=["</s>"]),
        "plan",
        "eos_token_id is ['</s>']",
    ),
    "an end token nobody knows in config": (
        lambda folder: (
            (folder / "generation_config.json").unlink(),
            fields(CONFIG, eos_token_id=-5)(folder),
        )[1],
        "load",
        "eos_token_id is -5",
    ),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "plan", "no weights; allowed: model.safetensors or"),
    "weights cut short": (shorter(WEIGHTS, 100), "plan", "not a whole safetensors file"),
    "weights that are empty": (content(WEIGHTS, b""), "plan", "not a whole safetensors file"),
    "weights with a header of 2**62 bytes": (
        content(WEIGHTS, struct.pack("<Q", 2**62) + b"{}"),
        "plan",
        "not a whole safetensors file",
    ),
    "index without a map": (indexed([1]), "plan", "weight_map is [1]; allowed: an object"),
    "index that leaves the folder": (indexed({NORM: "../part.safetensors"}), "plan", "allowed: a file of this folder"),
    "index of a file that is not there": (indexed({NORM: "other.safetensors"}), "plan", "no such file, but"),
    "index of a tensor that is not there": (indexed({"x": "part.safetensors"}), "plan", "tensor 'x' is missing, but"),
    "a tensor is missing": (tensors(lambda w: w.pop(NORM)), "load", f"tensor '{NORM}' is missing"),
    "a tensor too many": (tensors(lambda w: w.update(x=torch.ones(1))), "load", "tensor 'x' is not part of the model"),
    "a tensor of another shape": (
        tensors(lambda w: w.update({NORM: torch.ones(7)})),
        "load",
        f"tensor {NORM} has the shape [7]; allowed: [64]",
    ),
    "a weight that is NaN": (
        tensors(_set(GATE, float("nan"))),
        "load",
        f"tensor {GATE} holds values that are not finite",
    ),
    "a weight that is infinite": (tensors(_set(GATE, float("-inf"))), "load", f"tensor {GATE} holds values that are"),
    "embedding smaller than the tokenizer": (
        lambda folder: (
            fields(CONFIG, vocab_size=200)(folder),
            tensors(lambda w: w.update({key: w[key][:200].clone() for key in w if len(w[key]) > 200}))(folder),
            (folder / "generation_config.json").unlink(),
            fields(CONFIG, eos_token_id=5)(folder),
        )[3],
        "load",
        "allowed: 0 to 199, the rows of the embedding",
    ),
    "vocab_size of another model": (fields(CONFIG, vocab_size=500), "load", "has the shape ["),
    "tokenizer cut short": (shorter(TOKENIZER, 100), "plan", "tokenizer.json: not valid JSON"),
    "tokenizer of nothing": (content(TOKENIZER, b"{}"), "load", "cannot be loaded: "),
    "tokenizer_config that is a number": (content("tokenizer_config.json", b"1"), "plan", "holds a int; allowed"),
    "template in Latin-1": (content("chat_template.jinja", b"\xe9"), "plan", "chat_template.jinja: "),
}


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "model"
    save_folder(folder)
    return folder


def refusal(name: str, stage: Stage) -> str:
    """The line, which comes in planning already or at loading alone."""
    if stage == "load":
        check_model(name)
    with pytest.raises(ModelError) as refused:
        check_model(name) if stage == "plan" else load_model(name, device="cpu")
    if stage == "plan":
        with pytest.raises(ModelError):
            load_model(name, device="cpu")
    return str(refused.value)


@pytest.mark.parametrize("case", FOLDERS)
def test_a_broken_folder_is_refused(case: str, whole: Path, tmp_path: Path) -> None:
    """Would catch random numbers in place of weights, answers without an end, and tracebacks."""
    damage, stage, message = FOLDERS[case]
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    damage(folder)
    line = refusal(str(folder), stage)
    assert message in line
    assert str(folder) in line
    assert "\n" not in line
    assert len(line) < 1000


def test_the_whole_one_is_served(whole: Path, tmp_path: Path) -> None:
    """Would catch a check that refuses everything, tied layers taken for missing, and buffers of old releases."""
    check_model(str(whole))
    check_chat_template(str(whole))
    model = load_model(str(whole), device="cpu")
    model.require_chat(decodes=True)
    assert model.identity.weights_digest is not None

    tied = tmp_path / "tied"
    shutil.copytree(whole, tied)
    fields(CONFIG, tie_word_embeddings=True)(tied)
    tensors(
        lambda w: (w.pop("lm_head.weight"), w.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}))
    )(tied)
    other = load_model(str(tied), device="cpu")
    assert other.identity.weights_digest != model.identity.weights_digest
    assert other.identity.tokenizer_digest == model.identity.tokenizer_digest
    assert other.identity.template_digest == model.identity.template_digest


def test_several_files_of_weights_have_one_digest(whole: Path, tmp_path: Path) -> None:
    """Would catch a digest of the first file alone, and one that depends on where the folder lies."""
    model = load_model(str(whole), device="cpu")
    digests = []
    for name in ("a", "b"):
        model.network.save_pretrained(tmp_path / name, max_shard_size="100KB")
        for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            shutil.copy(whole / file, tmp_path / name)
        digests.append(load_model(str(tmp_path / name), device="cpu").identity)
    assert digests[0] == digests[1]
    assert digests[0].weights_digest != model.identity.weights_digest


def test_words_need_a_template_and_an_end(whole: Path, tmp_path: Path) -> None:
    """Would catch a base model asked in a markup of nobody's, and every answer as long as it may be."""
    bare = tmp_path / "bare"
    shutil.copytree(whole, bare)
    (bare / "chat_template.jinja").unlink()
    check_model(str(bare))
    with pytest.raises(ModelError, match="its tokenizer has no chat template"):
        check_chat_template(str(bare))
    with pytest.raises(ModelError, match="its tokenizer has no chat template"):
        load_model(str(bare), device="cpu").require_chat(decodes=True)

    endless = tmp_path / "endless"
    shutil.copytree(whole, endless)
    (endless / "generation_config.json").unlink()
    fields(CONFIG, eos_token_id=None)(endless)
    model = load_model(str(endless), device="cpu")
    model.require_chat(decodes=False)
    with pytest.raises(ModelError, match=r"neither generation_config\.json nor config\.json has an eos_token_id"):
        model.require_chat(decodes=True)


def edited(change: Callable[[bytes], bytes]) -> Damage:
    """A GGUF file with other bytes."""

    def damage(path: Path) -> None:
        write_gguf(path)
        path.write_bytes(change(path.read_bytes()))

    return damage


def written(architecture: str = "llama", **how: Any) -> Damage:
    """A GGUF file that was written so."""
    return lambda path: write_gguf(path, architecture, **how)


def _count(at: int, value: int) -> Callable[[bytes], bytes]:
    return lambda whole: whole[:at] + struct.pack("<Q", value) + whole[at + 8 :]


def _array(kind: int, count: int) -> bytes:
    """A file whose only entry is an array."""
    return b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"a" + struct.pack("<IIQ", 9, kind, count) + bytes(64)


GGUF_FILES: dict[str, tuple[Damage, Stage, str]] = {
    "nothing": (edited(lambda _: b""), "plan", "not a GGUF file"),
    "another format": (edited(lambda whole: b"PK\x03\x04" + whole[4:]), "plan", "not a GGUF file"),
    "a version to come": (edited(lambda whole: whole[:4] + struct.pack("<I", 9) + whole[8:]), "plan", "version is 9"),
    "2**60 tensors": (edited(_count(8, 2**60)), "plan", "do not fit the"),
    "2**60 entries": (edited(_count(16, 2**60)), "plan", "do not fit the"),
    "an array of 2**60 numbers": (edited(lambda _: _array(4, 2**60)), "plan", "the file ends within 'a'"),
    "an array of 2**60 strings": (edited(lambda _: _array(8, 2**60)), "plan", "do not fit the"),
    "an array of arrays": (edited(lambda _: _array(9, 1)), "plan", "is an array of type 9; allowed: numbers or"),
    "cut within the header": (edited(lambda whole: whole[:500]), "plan", "20 tensors do not fit the 476 bytes left"),
    "cut within the text": (edited(lambda whole: whole[:3500]), "plan", "the file ends within"),
    "cut within the weights": (
        edited(lambda whole: whole[:-5000]),
        "plan",
        "bytes behind the file; the file is damaged",
    ),
    "another architecture": (
        written("gemma3"),
        "plan",
        "general.architecture is 'gemma3'; allowed: llama, qwen2, qwen3",
    ),
    "scaled RoPE": (
        written(extra={"llama.rope.scaling.type": "linear"}),
        "plan",
        "rope.scaling.type is 'linear'; allowed",
    ),
    "the scaled RoPE of Llama 3.1": (
        written(more_tensors={"rope_freqs.weight": np.ones(32, dtype=np.float32)}),
        "plan",
        "holds rope_freqs.weight",
    ),
    "part of the head rotated": (
        written("qwen3", extra={"qwen3.rope.dimension_count": 32}),
        "plan",
        "rope.dimension_count is 32; allowed: 128",
    ),
    "experts": (written(extra={"llama.expert_count": 8}), "plan", "expert_count is 8; allowed: 0"),
    "a sliding window": (
        written(extra={"llama.attention.sliding_window": 99}),
        "plan",
        "sliding_window is 99; allowed: 0",
    ),
    "no number of layers": (written(leave_out=("llama.block_count",)), "plan", "llama.block_count is missing"),
    "heads by layer": (
        written(extra={"llama.attention.head_count": [4, 4]}),
        "plan",
        "num_attention_heads is GGUFArray",
    ),
    "no tokens": (written(leave_out=("tokenizer.ggml.tokens",)), "plan", "tokenizer.ggml.tokens is None"),
    "a tensor is missing": (
        written(leave_out=("blk.1.ffn_up.weight",)),
        "load",
        "tensor blk.1.ffn_up.weight is missing",
    ),
    "a tensor too many": (
        written(more_tensors={"blk.0.attn_q.bias": np.ones(256, dtype=np.float32)}),
        "load",
        "tensor blk.0.attn_q.bias is not part of a llama model",
    ),
    "a tensor of another shape": (
        written(leave_out=("output_norm.weight",), more_tensors={"output_norm.weight": np.ones(7, dtype=np.float32)}),
        "load",
        "tensor output_norm.weight has the shape [7]; allowed: [256]",
    ),
    "a weight that is NaN": (
        written(
            leave_out=("output_norm.weight",),
            more_tensors={"output_norm.weight": np.full(256, np.nan, dtype=np.float32)},
        ),
        "load",
        "tensor model.norm.weight holds values that are not finite",
    ),
    "an end token nobody knows": (written(extra={"tokenizer.ggml.eos_token_id": 4000}), "plan", "eos_token_id is 4000"),
    "a tokenizer nobody knows": (written(extra={"tokenizer.ggml.merges": 5}), "load", "not a GGUF model that"),
}


@pytest.mark.parametrize("case", GGUF_FILES)
def test_a_broken_gguf_file_is_refused(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch an endless loop over a hostile length, frequencies left unscaled, and tracebacks."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    damage, stage, message = GGUF_FILES[case]
    path = tmp_path / "model.gguf"
    damage(path)
    line = refusal(str(path), stage)
    assert message in line
    assert str(path) in line
    assert "\n" not in line
    assert len(line) < 1000


def test_a_gguf_file_without_a_template(tmp_path: Path) -> None:
    """Would catch a base model that is found out after its conversion alone."""
    path = tmp_path / "model.gguf"
    write_gguf(path, template=None)
    check_model(str(path))
    with pytest.raises(ModelError, match="its tokenizer has no chat template"):
        check_chat_template(str(path))
