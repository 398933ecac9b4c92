"""Decide whether the engine can serve a model, by its configuration alone."""

import math
from typing import Any

from kvcomm_core.config import shown

MODEL_TYPES = ("llama", "qwen2", "qwen3", "mistral")
ROPE_TYPES = ("default", "llama3", "yarn")

_SIZES = {
    "num_hidden_layers": 10_000,
    "num_attention_heads": 10_000,
    "num_key_value_heads": 10_000,
    "head_dim": 100_000,
    "hidden_size": 1_000_000,
    "intermediate_size": 10_000_000,
    "vocab_size": 100_000_000,
    "max_position_embeddings": 1_000_000_000,
}
"""Integer fields of a configuration, each from 1 to a bound that no real model comes near."""

_NEEDED = ("num_hidden_layers", "num_attention_heads", "hidden_size")
_OPTIONAL_NULL = ("num_key_value_heads", "head_dim")


class ModelError(ValueError):
    """A model name is unknown, its data is missing, or we cannot serve the model; the message is one line."""


class ModelMissingError(ModelError):
    """A Hub model is not available from this machine now."""


def naming(name: str, error: ValueError) -> ModelError:
    """Describe what is wrong with a model's file. Prefix the model's name, unless the message begins with it as the
    file's path."""
    return ModelError(str(error) if str(error).startswith(name) else f"model is {shown(name)}; {error}")


def require_model(holds: bool, where: str, field: str, value: object, allowed: str) -> None:
    """Raise ``ModelError`` that names the model or file, the field and its value, unless ``holds``."""
    if not holds:
        raise ModelError(f"{where}: {field} is {shown(value)}; allowed: {allowed}")


def check_config(name: str, config: dict[str, Any]) -> None:
    """Raise ``ModelError`` unless the architecture and RoPE type are on the allow-list.

    The engine moves keys by one rotation per segment, so it needs full attention in every layer and rotary
    frequencies that do not depend on length, over the whole head, in halves (pairs i, i + D/2).
    """
    model_type = config.get("model_type")
    require_model(model_type in MODEL_TYPES, name, "model_type", model_type, ", ".join(MODEL_TYPES))
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    require_model(isinstance(rope, dict), name, "rope_parameters", rope, "an object")
    rope_type = rope.get("rope_type") or rope.get("type") or "default"
    require_model(rope_type in ROPE_TYPES, name, "RoPE type", rope_type, ", ".join(ROPE_TYPES))
    partial = rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    require_model(partial == 1.0, name, "partial_rotary_factor", partial, "1.0")
    sliding = config.get("sliding_window") if config.get("use_sliding_window", model_type == "mistral") else None
    layer_types = config.get("layer_types") or []
    require_model(isinstance(layer_types, list), name, "layer_types", layer_types, "a list")
    require_model(
        sliding is None and "sliding_attention" not in layer_types,
        name,
        "sliding_window",
        sliding,
        "full attention in every layer",
    )
    _check_numbers(name, config, rope)


def check_sizes(name: str, config: dict[str, Any]) -> None:
    """Raise ``ModelError`` unless ``config`` holds the fields that determine the shape of the KV."""
    for field in _NEEDED:
        if field not in config:
            raise ModelError(f"{name}: {field} is missing; allowed: 1 to {_SIZES[field]}")
    _, heads, head_dim = kv_sizes(config)
    queries = config["num_attention_heads"]
    allowed = f"a divisor of num_attention_heads, {queries}"
    require_model(queries % heads == 0, name, "num_key_value_heads", heads, allowed)
    is_even = head_dim >= 2 and head_dim % 2 == 0
    require_model(is_even, name, "the size of a head", head_dim, "an even number, 2 or more")


def kv_sizes(config: dict[str, Any]) -> tuple[int, int, int]:
    """Return layers, key/value heads and head size of a configuration that ``check_sizes`` has passed."""
    heads: int = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    return config["num_hidden_layers"], config.get("num_key_value_heads") or heads, head_dim


def _check_numbers(name: str, config: dict[str, Any], rope: dict[str, Any]) -> None:
    """Check types and ranges of the fields that are present."""
    for field, most in _SIZES.items():
        value = config.get(field, 1)
        if value is None and field in _OPTIONAL_NULL:
            continue
        require_model(type(value) is int and 1 <= value <= most, name, field, value, f"1 to {most}")
    floats: list[tuple[str, Any]] = [(field, config.get(field)) for field in ("rms_norm_eps", "rope_theta")]
    floats += [(field, rope.get(field)) for field in ("rope_theta", "factor")]
    for field, value in floats:
        is_number = type(value) in (int, float) and 0 < value < 1e30
        require_model(value is None or is_number, name, field, value, "a finite number above 0")
    tied = config.get("tie_word_embeddings", False)
    require_model(isinstance(tied, bool), name, "tie_word_embeddings", tied, "true, false")


def check_end_tokens(where: str, value: Any, vocabulary: int | None) -> frozenset[int]:
    """Return the ids of ``eos_token_id``: one, a list, or null for none.

    Raise ``ModelError`` for an id that is not below ``vocabulary``, the rows of the embedding (None if unknown).
    """
    ids = [] if value is None else value if isinstance(value, list | tuple) else [value]
    most = "" if vocabulary is None else f" to {vocabulary - 1}, the ids of the vocabulary"
    for each in ids:
        is_id = type(each) is int and 0 <= each < (math.inf if vocabulary is None else vocabulary)
        require_model(is_id, where, "eos_token_id", value, f"0{most or ' or more'}")
    return frozenset(ids)
