"""Decide whether the engine can serve a model, by its configuration alone."""

import math
from typing import Any

from kvcomm_core.config import shown
from kvcomm_core.models.families import FAMILIES, LIMITED_ROPES, REFUSED, Family

_LAYER_TYPES = ("full_attention", "sliding_attention")

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
    """The files of a model are not on this machine, and cannot be had now."""


def naming(name: str, error: ValueError) -> ModelError:
    """Describe what is wrong with a model's file. Prefix the model's name, unless the message begins with it as the
    file's path."""
    return ModelError(str(error) if str(error).startswith(name) else f"model is {shown(name)}; {error}")


def require_model(holds: bool, where: str, field: str, value: object, allowed: str) -> None:
    """Raise ``ModelError`` that names the model or file, the field and its value, unless ``holds``."""
    if not holds:
        raise ModelError(f"{where}: {field} is {shown(value)}; allowed: {allowed}")


def check_config(name: str, config: dict[str, Any]) -> None:
    """Raise ``ModelError`` unless the engine serves the family with this RoPE type and these layers.

    The engine moves keys by one rotation per segment and layer, so rotary frequencies must not depend on length.
    """
    family = _family_of(name, config)
    ropes = rope_parameters(name, config)
    for rope in ropes:
        rope_type = rope_type_of(config, rope)
        require_model(
            rope_type in family.ropes,
            name,
            f"the RoPE type of {config['model_type']}",
            rope_type,
            ", ".join(family.ropes),
        )
        partial = rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
        is_part = type(partial) in (int, float) and (partial == 1.0 or (family.partial and 0 < partial < 1))
        require_model(is_part, name, "partial_rotary_factor", partial, "0 to 1" if family.partial else "1.0")
        if (limit := LIMITED_ROPES.get(rope_type)) == "original_max_position_embeddings":
            original = rope.get(limit, config.get(limit))
            is_length = type(original) is int and original >= 1
            require_model(is_length, name, limit, original, f"1 or more, with RoPE type {rope_type}")
    _check_layers(name, config, family)
    _check_numbers(name, config, ropes)


def _family_of(name: str, config: dict[str, Any]) -> Family:
    model_type = config.get("model_type")
    if isinstance(model_type, str) and model_type in REFUSED:
        raise ModelError(
            f"{name}: model_type is {shown(model_type)}, {REFUSED[model_type]}; allowed: {', '.join(FAMILIES)}"
        )
    is_served = isinstance(model_type, str) and model_type in FAMILIES
    require_model(is_served, name, "model_type", model_type, ", ".join(FAMILIES))
    return FAMILIES[str(model_type)]


def rope_parameters(name: str, config: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the RoPE parameters of a configuration, in the spelling of any release: one set, or one for each layer
    type."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    require_model(isinstance(rope, dict), name, "rope_parameters", rope, "an object")
    by_type = [each for key, each in rope.items() if key in _LAYER_TYPES and each is not None]
    for each in by_type:
        require_model(isinstance(each, dict), name, "rope_parameters", rope, "an object")
    return by_type or [rope]


def rope_type_of(config: dict[str, Any], rope: dict[str, Any]) -> Any:
    """Return the RoPE type; Phi-3 calls the type ``longrope`` ``su`` or ``yarn``, too."""
    rope_type = rope.get("rope_type") or rope.get("type") or "default"
    return "longrope" if config.get("model_type") == "phi3" and rope_type in ("su", "yarn") else rope_type


def served_context(config: dict[str, Any]) -> int:
    """Return the most tokens of a prompt with its answer, for a configuration as transformers holds it: positions that
    the model has and up to which its rotary frequencies are constant."""
    context: int = config["max_position_embeddings"]
    for rope in rope_parameters("", config):
        limit = LIMITED_ROPES.get(rope_type_of(config, rope))
        if limit is not None:
            context = min(context, rope.get(limit) or config.get(limit) or context)
    return context


def _check_layers(name: str, config: dict[str, Any], family: Family) -> None:
    """Check the layer types, which decide what a layer sees and whether it has keys at all."""
    layer_types = config.get("layer_types") or []
    require_model(isinstance(layer_types, list), name, "layer_types", layer_types, "a list")
    allowed = _LAYER_TYPES if family.windows == "by_layer" else _LAYER_TYPES[:1]
    if family.windows == "one" and config.get("sliding_window") is not None:
        allowed = _LAYER_TYPES
    for layer_type in layer_types:
        require_model(layer_type in allowed, name, "layer_types", layer_type, " or ".join(allowed))
    if family.windows == "one" and len(set(map(str, layer_types))) > 1:
        require_model(False, name, "layer_types", layer_types, f"all alike in {config['model_type']}")
    window = config.get("sliding_window")
    if family.windows != "none" and config.get("use_sliding_window", True):
        is_window = window is None or (type(window) is int and window >= 1)
        require_model(is_window, name, "sliding_window", window, "1 or more, or null")
        missing = window is None and "sliding_attention" in layer_types
        require_model(not missing, name, "sliding_window", window, "1 or more, as layer_types has sliding_attention")
    two_way = config.get("use_bidirectional_attention")
    require_model(not two_way, name, "use_bidirectional_attention", two_way, "false or null")


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
    usual = FAMILIES[config["model_type"]].head_dim if config.get("model_type") in FAMILIES else None
    head_dim = config.get("head_dim") or usual or config["hidden_size"] // heads
    return config["num_hidden_layers"], config.get("num_key_value_heads") or heads, head_dim


def _check_numbers(name: str, config: dict[str, Any], ropes: list[dict[str, Any]]) -> None:
    """Check types and ranges of the fields that are present."""
    for field, most in _SIZES.items():
        value = config.get(field, 1)
        if value is None and field in _OPTIONAL_NULL:
            continue
        require_model(type(value) is int and 1 <= value <= most, name, field, value, f"1 to {most}")
    floats: list[tuple[str, Any]] = [(field, config.get(field)) for field in ("rms_norm_eps", "rope_theta")]
    floats += [(field, rope.get(field)) for rope in ropes for field in ("rope_theta", "factor")]
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
