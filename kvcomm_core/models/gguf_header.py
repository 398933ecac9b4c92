"""Reader for the header of a GGUF file: the model's description and its tensors' places, without loading any tensor.

The file may come from anybody, so every length is checked against the rest of the file before it is used. Format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from kvcomm_core.config import shown
from kvcomm_core.models.model_config import ModelError, check_end_tokens, require_model

GGUF_TYPES = ("llama", "qwen2", "qwen3")
"""GGUF's names of the architectures in ``MODEL_TYPES``; Mistral uses ``llama``."""

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MOST_ENTRIES = 1_000_000
"""Maximum number of entries in the header, and in one array of strings."""
_MOST_DIMENSIONS = 4

_CONFIG = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
}
_OPTIONAL = ("attention.head_count_kv", "attention.key_length", "rope.freq_base")


@dataclass(frozen=True, slots=True)
class GGUFArray:
    """An array of the metadata; its items are not kept."""

    length: int


@dataclass(frozen=True, slots=True)
class GGUFTensor:
    """The place of a tensor in the file."""

    name: str
    shape: tuple[int, ...]
    """Shape in torch's order, rows first."""
    quantization: int
    """A ``gguf.GGMLQuantizationType``."""
    offset: int
    """Bytes from the start of the file."""
    nbytes: int


@dataclass(frozen=True, slots=True)
class GGUFHeader:
    """The content of a GGUF file's header."""

    path: Path
    metadata: dict[str, Any]
    """Scalars and strings, as they are in the file."""
    tensors: tuple[GGUFTensor, ...]

    def config(self) -> dict[str, Any]:
        """Return the configuration as a config.json would state it. Raise ``ModelError`` for anything that it, or
        the engine, cannot express."""
        architecture = self.metadata.get("general.architecture")
        self._require(architecture in GGUF_TYPES, "general.architecture", architecture, ", ".join(GGUF_TYPES))
        config: dict[str, Any] = {"model_type": architecture}
        for key, field in _CONFIG.items():
            value = self.metadata.get(f"{architecture}.{key}")
            if value is not None:
                config[field] = value
            elif key not in _OPTIONAL:
                raise ModelError(f"{self.path}: {architecture}.{key} is missing")
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        if not isinstance(tokens, GGUFArray):
            raise ModelError(f"{self.path}: tokenizer.ggml.tokens is {shown(tokens)}; allowed: an array")
        config["vocab_size"] = self.metadata.get(f"{architecture}.vocab_size", tokens.length)
        config["tie_word_embeddings"] = "output.weight" not in {tensor.name for tensor in self.tensors}
        self._check_variant(str(architecture), config)
        check_end_tokens(str(self.path), self.metadata.get("tokenizer.ggml.eos_token_id"), tokens.length)
        return config

    @property
    def has_chat_template(self) -> bool:
        """Whether the file contains a chat template."""
        template = self.metadata.get("tokenizer.chat_template")
        return isinstance(template, str) and bool(template.strip())

    def _check_variant(self, architecture: str, config: dict[str, Any]) -> None:
        """Refuse variants that the architecture's name does not reveal: scaled RoPE, RoPE on part of the head,
        windows, experts."""

        def of(key: str) -> Any:
            return self.metadata.get(f"{architecture}.{key}")

        # Neither transformers nor a config.json takes these over, so the model would run with unscaled frequencies.
        scaling = of("rope.scaling.type")
        self._require(scaling in (None, "none"), "rope.scaling.type", scaling, "none, in a GGUF file")
        if any(tensor.name.startswith("rope_freqs") for tensor in self.tensors):
            raise ModelError(
                f"{self.path}: holds rope_freqs.weight, the scaled RoPE of Llama 3.1; allowed in a GGUF file: no "
                f"scaling (the safetensors of such a model can be served)"
            )
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        rotated, of_head = of("rope.dimension_count"), config.get("head_dim")
        if of_head is None and isinstance(heads, int) and isinstance(hidden, int) and heads > 0:
            of_head = hidden // heads
            if rotated is not None and architecture == "llama":  # as transformers reads it
                of_head = config["head_dim"] = rotated
        for key, value, why in (
            ("rope.dimension_count", rotated, "all of a head"),
            ("attention.value_length", of("attention.value_length"), "as for keys"),
        ):
            self._require(None in (value, of_head) or value == of_head, key, value, f"{of_head}, {why}")
        for key in ("attention.sliding_window", "expert_count"):
            self._require(not of(key), key, of(key), "0")

    def _require(self, holds: bool, field: str, value: object, allowed: str) -> None:
        require_model(holds, str(self.path), field, value, allowed)


def read_header(path: Path) -> GGUFHeader:
    """Read the header of a file. Raise ``ModelError`` if it is damaged or longer than the file."""
    try:
        with path.open("rb") as file:
            return _Reader(path, file).header()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from None


class _Reader:
    """Reads forward through one file."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        self._size = path.stat().st_size
        self._left = self._size

    def header(self) -> GGUFHeader:
        if self._size < 24 or self._bytes(4, "magic") != b"GGUF":
            raise ModelError(f"{self._path}: not a GGUF file")
        version, tensor_count, entry_count = self._unpack("IQQ", "version")
        if version not in (2, 3):
            raise ModelError(f"{self._path}: GGUF version is {version}; allowed: 2, 3, little-endian")
        self._check_count(entry_count, 13, "metadata entries")
        self._check_count(tensor_count, 24, "tensors")
        metadata: dict[str, Any] = {}
        for _ in range(entry_count):
            key = self._string("a key", most=65_535)
            if key in metadata:
                raise ModelError(f"{self._path}: {shown(key)} is there twice")
            (kind,) = self._unpack("I", key)
            metadata[key] = self._value(key, kind)
        entries = [self._tensor() for _ in range(tensor_count)]
        return GGUFHeader(self._path, metadata, self._place(entries, metadata.get("general.alignment", 32)))

    def _value(self, key: str, kind: int) -> Any:
        if kind in _SCALARS:
            (value,) = self._unpack(_SCALARS[kind], key)
            return value
        if kind == _STRING:
            return self._string(key)
        if kind != _ARRAY:
            raise ModelError(f"{self._path}: {shown(key)} is of type {kind}; allowed: 0 to 12")
        item, count = self._unpack("IQ", key)
        if item in _SCALARS:
            self._skip(count * struct.calcsize(_SCALARS[item]), key)
        elif item == _STRING:
            self._check_count(count, 8, f"items of {shown(key)}")
            for _ in range(count):
                (length,) = self._unpack("Q", key)
                self._skip(length, key)
        else:
            raise ModelError(f"{self._path}: {shown(key)} is an array of type {item}; allowed: numbers or strings")
        return GGUFArray(count)

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string("a tensor's name", most=65_535)
        (dimensions,) = self._unpack("I", name)
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            allowed = f"1 to {_MOST_DIMENSIONS}"
            raise ModelError(f"{self._path}: tensor {shown(name)} has {dimensions} dimensions; allowed: {allowed}")
        shape = self._unpack(f"{dimensions}Q", name)
        quantization, offset = self._unpack("IQ", name)
        return name, tuple(reversed(shape)), quantization, offset

    def _place(self, entries: list[tuple[str, tuple[int, ...], int, int]], alignment: Any) -> tuple[GGUFTensor, ...]:
        """Return the tensors with their places, each checked to lie within the file."""
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1) or alignment > 1 << 20:
            raise ModelError(f"{self._path}: general.alignment is {shown(alignment)}; allowed: a power of two")
        start = -(-(self._size - self._left) // alignment) * alignment
        tensors: dict[str, GGUFTensor] = {}
        for name, shape, quantization, offset in entries:
            if name in tensors:
                raise ModelError(f"{self._path}: tensor {shown(name)} is there twice")
            if quantization not in GGMLQuantizationType._value2member_map_:
                raise ModelError(
                    f"{self._path}: tensor {shown(name)} is quantised by type {quantization}, not known here"
                )
            values, size = GGML_QUANT_SIZES[GGMLQuantizationType(quantization)]
            count = math.prod(shape)
            nbytes = count // values * size
            if shape[-1] % values or count == 0 or start + offset + nbytes > self._size:
                missing = f"ends {start + offset + nbytes - self._size} bytes behind the file"
                wrong = f"has the shape {list(shape)}" if shape[-1] % values or count == 0 else missing
                raise ModelError(f"{self._path}: tensor {shown(name)} {wrong}; the file is damaged")
            tensors[name] = GGUFTensor(name, shape, quantization, start + offset, nbytes)
        return tuple(tensors.values())

    def _check_count(self, count: int, least: int, what: str) -> None:
        """Check that ``count`` things of at least ``least`` bytes each fit in the rest of the file, before reading
        them."""
        if count > _MOST_ENTRIES or count * least > self._left:
            raise ModelError(
                f"{self._path}: {count} {what} do not fit the {self._left} bytes left; the file is damaged"
            )

    def _string(self, what: str, most: int = 64 << 20) -> str:
        (length,) = self._unpack("Q", what)
        if length > most:
            raise ModelError(f"{self._path}: {shown(what)} is {length} bytes long; allowed: at most {most}")
        try:
            return self._bytes(length, what).decode("utf-8")
        except UnicodeDecodeError:
            raise ModelError(f"{self._path}: {shown(what)} is not UTF-8 text; the file is damaged") from None

    def _unpack(self, layout: str, what: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{layout}", self._bytes(struct.calcsize(f"<{layout}"), what))

    def _bytes(self, count: int, what: str) -> bytes:
        self._advance(count, what)
        content = self._file.read(count)
        if len(content) != count:
            raise ModelError(f"{self._path}: the file ends within {shown(what)}; it is damaged")
        return content

    def _skip(self, count: int, what: str) -> None:
        self._advance(count, what)
        self._file.seek(count, 1)

    def _advance(self, count: int, what: str) -> None:
        if count > self._left:
            raise ModelError(f"{self._path}: the file ends within {shown(what)}; it is damaged")
        self._left -= count
