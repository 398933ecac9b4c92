"""Models by name: resolve a name and check whether we can serve the model, without loading torch.

``embedded``, ``coder``  small models with a name, which ``named_models.py`` lists; ``embedded`` is the default
``meta-llama/...``      a Hub id, or ``meta-llama/...@revision`` with a branch, tag or commit
``./folder``            a local folder with config.json and weights
``./file.gguf``         a GGUF file
``random:llama-3.1-8b`` that model's shape with random weights, for timing; also ``random:`` with a Hub id or a folder,
                        of which only config.json is read
"""

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kvcomm_core.config import shown
from kvcomm_core.files.published_files import HubError, HubFile
from kvcomm_core.files.strict_json import JsonError, read_object
from kvcomm_core.models.gguf_header import GGUFHeader, read_header
from kvcomm_core.models.model_config import ModelError, ModelMissingError, check_config, check_sizes, kv_sizes, naming
from kvcomm_core.models.model_files import check_small_files, has_chat_template, weight_files
from kvcomm_core.models.named_models import NAMED_MODELS, NamedModel
from kvcomm_core.models.quantisation import check_quantisation

_LLAMA_3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
RANDOM_SHAPES: dict[str, dict[str, Any]] = {
    "llama-3.1-8b": {
        "model_type": "llama",
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_parameters": _LLAMA_3_ROPE,
    },
    "qwen2.5-7b": {
        "model_type": "qwen2",
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
    },
    "smollm2-135m": {
        "model_type": "llama",
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
    },
}
"""Configurations of ``random:`` models, from the published config.json files."""

_HUB_ID = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[\w.-]+)(?:@(?P<revision>[A-Za-z0-9][\w.-]*(?:/[\w.-]+)*))?")


_NO_PART_OF_SHAPE = ("quantization_config", "auto_map", "architectures", "dtype", "torch_dtype", "_name_or_path")
"""Fields of config.json that say nothing of a model's shape."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """The origin of a model."""

    kind: Literal["gguf", "folder", "hub", "random"]
    location: str
    """A path, a Hub id, or the name of a shape."""
    revision: str | None = None
    """Branch, tag or commit of a Hub id; None for its main branch."""
    shape: "ModelSource | None" = None
    """For random weights: the folder or Hub id whose configuration is the shape; None for a shape with a name."""
    named: NamedModel | None = None
    """The model of ``NAMED_MODELS`` whose file this is."""


def find_model(name: str) -> ModelSource:
    """Resolve ``name``. Touches the disk, never the network. Raise ``ModelError`` if it is unknown."""
    if (named := NAMED_MODELS.get(name)) is not None:
        return ModelSource("gguf", str(named.find()), named=named)
    if name.startswith("random:"):
        return _find_shape(name, name.removeprefix("random:"))
    try:
        path = Path(name).expanduser()
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # the name is too long, names no such user, or contains a NUL
        raise ModelError(f"model is {shown(name)}, which is no path: {error}") from None
    if name.endswith(".gguf") and not is_folder:
        if not is_file:
            raise ModelError(f"model is {shown(name)}; no such file")
        return ModelSource("gguf", str(path))
    if is_folder:
        if not (path / "config.json").is_file():
            raise ModelError(f"model is {shown(name)}; the folder has no config.json")
        return ModelSource("folder", str(path))
    if found := _HUB_ID.fullmatch(name):
        return ModelSource("hub", found["id"], found["revision"])
    raise ModelError(
        f"model is {shown(name)}; allowed: {', '.join(NAMED_MODELS)}, a Hub id such as "
        f"meta-llama/Llama-3.1-8B-Instruct, with @ and a revision if need be, a folder, a .gguf file, random:<shape>"
    )


def _find_shape(name: str, shape: str) -> ModelSource:
    if shape in RANDOM_SHAPES:
        return ModelSource("random", shape)
    try:
        source = find_model(shape)
    except ModelError:
        source = None
    if source is None or source.kind not in ("folder", "hub"):
        raise ModelError(
            f"model is {shown(name)}; allowed after random: {', '.join(RANDOM_SHAPES)}, a folder with config.json, a "
            f"Hub id"
        )
    return ModelSource("random", source.location, source.revision, shape=source)


def random_shape(name: str, source: ModelSource) -> dict[str, Any]:
    """Return the configuration of a ``random:`` model: of its name, or a published one, without quantisation. Raise
    ``ModelError`` if the engine does not serve such models."""
    if source.shape is None:
        return RANDOM_SHAPES[source.location]
    with _one_line(name):
        config = read_object(config_file(name, source.shape))
    check_config(name, config)
    check_sizes(name, config)
    return {field: value for field, value in config.items() if field not in _NO_PART_OF_SHAPE}


def check_model(name: str) -> None:
    """Raise ``ModelError`` if ``name`` cannot be served: it is unknown, unavailable, damaged, or not on the allow-list.

    The check covers everything visible without loading the weights: all small files, and the headers of the large ones.
    A Hub id costs one small download (its config.json), or nothing if that is cached.
    """
    source = find_model(name)
    config = _config_of(name, source)
    if source.kind == "folder":
        with _one_line(name):
            check_small_files(Path(source.location), config.get("vocab_size"))
            weight_files(Path(source.location))


def check_chat_template(name: str) -> None:
    """Raise ``ModelError`` if a folder or a GGUF file has no chat template. Other models are checked when loaded."""
    source = find_model(name)
    with _one_line(name):
        if source.kind == "gguf":
            found = _header_of(Path(source.location)).has_chat_template
        else:
            found = source.kind != "folder" or has_chat_template(Path(source.location))
    if not found:
        raise ModelError(no_chat_template(name))


def no_chat_template(name: str) -> str:
    """Return the message that refuses that model for a workload of text."""
    allowed = "the workloads ttft and blend, or a model with one"
    return f"model is {shown(name)}; its tokenizer has no chat template; allowed: {allowed}"


def kv_shape(name: str) -> tuple[int, int, int]:
    """Return layers, key/value heads and head size of a model, from its configuration alone. Raise ``ModelError``."""
    return kv_sizes(model_config(name))


def model_config(name: str) -> dict[str, Any]:
    """Return the configuration of a model, as its file or its shape states it. Raise ``ModelError`` if the engine
    cannot serve it."""
    return _config_of(name, find_model(name))


def config_file(name: str, source: ModelSource) -> Path:
    """Return the config.json of a folder or a Hub id, downloaded unless it is cached. Raise ``ModelMissingError``."""
    if source.kind == "folder":
        return Path(source.location) / "config.json"
    try:
        file = HubFile(repo_id=source.location, filename="config.json", revision=source.revision, repo_type="model")
        return file.fetch()
    except HubError as error:
        raise ModelMissingError(f"model is {shown(name)}; its config.json is not available: {error}") from None


def _config_of(name: str, source: ModelSource) -> dict[str, Any]:
    """Return the configuration after checking that the engine can serve it."""
    if source.kind == "random":
        return random_shape(name, source)
    with _one_line(name):
        if source.kind == "gguf":
            config = _header_of(Path(source.location)).config()
        else:
            config = read_object(config_file(name, source))
    check_config(name, config)
    check_sizes(name, config)
    check_quantisation(name, config)
    return config


def _header_of(gguf: Path) -> GGUFHeader:
    """Read the header, once for all files of ``kvcomm plan --all``. Loading does not rely on it and reads the file
    itself."""
    try:
        status = gguf.stat()
    except OSError as error:
        raise ModelError(f"{gguf}: {error.strerror or error}") from None
    return _header_at(gguf, status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _header_at(gguf: Path, _inode: int, _size: int, _changed_ns: int) -> GGUFHeader:
    return read_header(gguf)


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Put the model's name before an error about one of its files."""
    try:
        yield
    except ModelMissingError:
        raise
    except (JsonError, ModelError) as error:
        raise naming(name, error) from None
