"""Conversion of GGUF files to safetensors: done once, kept in a cache, verified at each load.

Reading GGUF dequantises for many seconds, while later loads from the folder take less than one. A folder is named after
the file's content and appears whole or not at all. Its ``manifest.json`` holds the SHA-256 of its other files, so that
a file damaged later is found and made again.
"""

import json
import logging
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from kvcomm_core.config import one_line
from kvcomm_core.files.atomic_write import empty_scratch, replacing
from kvcomm_core.files.strict_json import JsonError, read_object
from kvcomm_core.models.gguf_header import GGUFHeader, GGUFTensor, read_header
from kvcomm_core.models.model_config import ModelError, check_config, check_sizes
from kvcomm_core.models.model_files import INDEX, converted_folder, sha256_of_all

MANIFEST = "manifest.json"
FORMAT = 1
"""Version of the converted files. Raise it when conversion changes them, so that earlier ones are made again."""

SHARD_BYTES = 64 << 20
"""Size limit of one file of weights, in bytes. A larger tensor gets a file of its own."""

_CHUNK_VALUES = 1 << 20
"""Number of weights dequantised at a time; the temporary arrays are several times their size."""

_log = logging.getLogger(__name__)


def converted(gguf: Path, sha256: str) -> Path:
    """Return the folder with the safetensors made from a GGUF file of that SHA-256. Convert now if it is missing or
    damaged.

    Raise ``ModelError`` if we cannot serve the file's model, or cannot write the cache.
    """
    folder = converted_folder(gguf.stem, sha256)
    cache = folder.parent
    if damage_of(folder) is None:
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{folder.name}.lock"):
            damage = damage_of(folder)  # another process may have made it meanwhile
            if damage is not None:
                if folder.exists():
                    _log.warning("converted again: %s: %s", folder, damage)
                _rebuild(gguf, folder)
    except OSError as error:
        raise ModelError(f"{gguf}: cannot be converted in {cache}: {error.strerror or error}") from None
    return folder


def damage_of(folder: Path) -> str | None:
    """Describe how a converted model differs from what was made; None if it does not."""
    if not folder.is_dir():
        return "not there"
    try:
        manifest = read_object(folder / MANIFEST)
    except JsonError as error:
        return str(error)
    files = manifest.get("sha256")
    if manifest.get("format") != FORMAT or not isinstance(files, dict):
        return f"{MANIFEST} is of another version"
    found = {path.name for path in folder.iterdir()} - {MANIFEST}
    for name in sorted(found ^ files.keys()):
        return f"{name} {'is missing' if name in files else 'was not made by the conversion'}"
    names = sorted(files)
    try:
        hashes = sha256_of_all([folder / name for name in names])
    except OSError as error:
        return str(error)
    return next((f"{name} has changed" for name, now in zip(names, hashes, strict=True) if now != files[name]), None)


def _rebuild(gguf: Path, folder: Path) -> None:
    scratch = folder.parent / f".converting-{folder.name}"
    empty_scratch(scratch)
    with replacing(folder, scratch, synced=False) as whole:
        whole.mkdir()
        convert(gguf, whole)
        names = sorted(path.name for path in whole.iterdir())
        files = dict(zip(names, sha256_of_all([whole / name for name in names]), strict=True))
        (whole / MANIFEST).write_text(json.dumps({"format": FORMAT, "sha256": files}, indent=2), encoding="utf-8")
        if folder.exists():
            folder.rename(scratch / "damaged")  # another process that has it open keeps it
    shutil.rmtree(scratch)


def convert(gguf: Path, folder: Path) -> None:
    """Write configuration, tokenizer and float32 weights of a GGUF file into an empty folder, one tensor at a time.

    Raise ``ModelError`` if that is impossible.
    """
    header = read_header(gguf)
    stated = header.config()
    check_config(str(gguf), stated)
    check_sizes(str(gguf), stated)
    try:
        config = AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a foreign file makes of it
        reason = one_line(f"{type(error).__name__}: {error}")
        raise ModelError(f"{gguf}: not a GGUF model that transformers reads: {reason[:300]}") from None
    if "head_dim" in stated:  # transformers takes it over for Llama alone
        config.head_dim = stated["head_dim"]
    check_config(str(gguf), config.to_dict())
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    config = network.config
    config.architectures = [type(network).__name__]
    config.save_pretrained(folder)
    GenerationConfig.from_model_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _drop_invented_tokens(folder, config.vocab_size)
    _save_weights(_Weights(header, network), folder)


def _drop_invented_tokens(folder: Path, vocabulary: int) -> None:
    """Remove the tokens that have no row in the embedding from a saved tokenizer.

    For byte-level vocabularies transformers adds GPT-2's ``<|endoftext|>`` as the unknown token, even where the
    vocabulary has none, as in Llama 3. Text that contains those characters would become an id beyond the embedding.
    """
    tokenizer, config = folder / "tokenizer.json", folder / "tokenizer_config.json"
    saved, settings = read_object(tokenizer), read_object(config)
    invented = {token["content"] for token in saved["added_tokens"] if token["id"] >= vocabulary}
    if not invented:
        return
    saved["added_tokens"] = [token for token in saved["added_tokens"] if token["content"] not in invented]
    kept = {key: value for key, value in settings.items() if not (isinstance(value, str) and value in invented)}
    for path, content in ((tokenizer, saved), (config, kept)):
        path.write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")


class _Weights:
    """The tensors of a GGUF file under the names that transformers gives them."""

    def __init__(self, header: GGUFHeader, network: Any) -> None:
        """``network`` is the model to fill, on the meta device. Raise ``ModelError`` unless the file has every
        tensor it needs."""
        from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

        config = network.config
        architecture = header.metadata["general.architecture"]
        [number] = [number for number, name in MODEL_ARCH_NAMES.items() if name == architecture]
        names = get_tensor_name_map(number, config.num_hidden_layers)
        self._path = header.path
        self._heads = {".attn_q.": config.num_attention_heads, ".attn_k.": config.num_key_value_heads}
        self._is_permuted = architecture == "llama"
        in_file = {tensor.name: tensor for tensor in header.tensors}
        self._tensors: dict[str, GGUFTensor] = {}
        # Use the parameters rather than the state dict: the output layer of a tied model is no parameter of its own.
        for name, parameter in network.named_parameters():
            stem, _, kind = name.rpartition(".")
            mapped = f"{names.get_name(stem)}.{kind}"
            tensor = in_file.pop(mapped, None)
            if tensor is None:
                raise ModelError(f"{self._path}: tensor {mapped} is missing")
            if tensor.shape != tuple(parameter.shape):
                allowed = list(parameter.shape)
                raise ModelError(
                    f"{self._path}: tensor {mapped} has the shape {list(tensor.shape)}; allowed: {allowed}"
                )
            self._tensors[name] = tensor
        for name in in_file:
            raise ModelError(f"{self._path}: tensor {name} is not part of a {architecture} model")

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield each tensor's name and its values in float32."""
        for name, tensor in self._tensors.items():
            values = self._dequantise(tensor)
            if self._is_permuted:
                for mark, heads in self._heads.items():
                    if mark in tensor.name:
                        values = _in_halves(values, heads)
            yield name, torch.from_numpy(values)

    def _dequantise(self, tensor: GGUFTensor) -> np.ndarray[Any, np.dtype[np.float32]]:
        from gguf import GGMLQuantizationType, dequantize

        kind = GGMLQuantizationType(tensor.quantization)
        columns = tensor.shape[-1]
        rows = int(np.prod(tensor.shape[:-1]))
        row_bytes = tensor.nbytes // rows
        values = np.empty((rows, columns), dtype=np.float32)
        step = max(1, _CHUNK_VALUES // columns)
        plain_types = {GGMLQuantizationType.F32: "<f4", GGMLQuantizationType.F16: "<f2"}
        with self._path.open("rb") as file:
            file.seek(tensor.offset)
            for start in range(0, rows, step):
                count = min(step, rows - start)
                raw = np.frombuffer(file.read(count * row_bytes), dtype=np.uint8)
                if raw.size != count * row_bytes:
                    raise ModelError(f"{self._path}: the file ends within tensor {tensor.name}")
                part: Any = raw.view(plain_types[kind]) if kind in plain_types else raw.reshape(count, row_bytes)
                try:
                    values[start : start + count] = dequantize(part, kind).reshape(count, columns)
                except NotImplementedError:
                    raise ModelError(
                        f"{self._path}: tensor {tensor.name} is quantised as {kind.name}, which is not read here"
                    ) from None
        return values.reshape(tensor.shape)


def _in_halves(weights: np.ndarray[Any, np.dtype[np.float32]], heads: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Reorder the rows of each head from pairs (2 i, 2 i + 1), as llama.cpp rotates, to (i, i + D/2), as
    transformers does."""
    half = weights.shape[0] // heads // 2
    pairs = weights.reshape(heads, half, 2, *weights.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(weights.shape)


def _shards(weights: Iterable[tuple[str, torch.Tensor]]) -> Iterator[dict[str, torch.Tensor]]:
    """Group tensors up to ``SHARD_BYTES``; only one group is in memory at a time."""
    shard: dict[str, torch.Tensor] = {}
    for name, values in weights:
        if shard and sum(tensor.nbytes for tensor in shard.values()) + values.nbytes > SHARD_BYTES:
            yield shard
            shard = {}
        shard[name] = values
    yield shard


def _save_weights(weights: _Weights, folder: Path) -> None:
    """Write the weights in files of about ``SHARD_BYTES``, with their index."""
    places: dict[str, str] = {}
    total = 0
    for number, shard in enumerate(_shards(weights), start=1):
        name = f"model-{number:05d}.safetensors"
        save_file(shard, folder / name, metadata={"format": "pt"})
        places.update(dict.fromkeys(shard, name))
        total += sum(tensor.nbytes for tensor in shard.values())
        del shard  # before the next one is made
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")
