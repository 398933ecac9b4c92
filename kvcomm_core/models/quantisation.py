"""Quantised weights: which packages transformers needs to load them, and how records describe them. Loads no torch.

The engine passes ``quantization_config`` through and serves what transformers makes of it. The dtype of a trial is then
that of all other weights, of activations and of KV.
"""

from importlib import metadata
from typing import Any

from kvcomm_core.config import shown
from kvcomm_core.models.model_config import ModelError, ModelMissingError, require_model

PACKAGES: dict[str, tuple[str, ...]] = {
    "aqlm": ("aqlm",),
    "auto-round": ("auto-round",),
    "awq": ("gptqmodel",),
    "bitsandbytes": ("bitsandbytes", "accelerate"),
    "compressed-tensors": ("compressed-tensors",),
    "fp8": (),
    "gptq": ("gptqmodel", "optimum"),
    "hqq": ("hqq",),
    "mxfp4": (),
    "torchao": ("torchao",),
}
"""Packages that each ``quant_method`` needs. Without a GPU that has their kernels, transformers turns ``mxfp4`` weights
into the trial's dtype while it loads them."""

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
"""Fields of a configuration that count experts."""

_BITS = {"load_in_8bit": 8, "load_in_4bit": 4}


def quantisation_of(name: str, config: dict[str, Any]) -> str | None:
    """Return what ``quantization_config`` says, such as ``bitsandbytes, 4 bits``; None if there is none.

    Raise ``ModelError`` for a method that transformers may load only in a way we do not know.
    """
    found = config.get("quantization_config")
    if found is None:
        return None
    require_model(isinstance(found, dict), name, "quantization_config", found, "an object")
    method = _method(found)
    is_known = isinstance(method, str) and method in PACKAGES
    require_model(is_known, name, "quantization_config.quant_method", method, ", ".join(PACKAGES))
    bits = bits_of(found)
    return str(method) if bits is None else f"{method}, {bits} bits"


def check_int8(name: str, config: dict[str, Any]) -> None:
    """Raise ``ModelError`` if ``weights: int8`` cannot quantise a model: it is quantised already, or has experts, whose
    matrices are no linear layers."""
    found = quantisation_of(name, config)
    why = f"its weights are quantised already: {found}" if found is not None else None
    if any(config.get(field) for field in EXPERTS):
        why = "it has experts, whose matrices are no linear layers"
    if why is not None:
        raise ModelError(f"model is {shown(name)}; weights is 'int8'; allowed: model, since {why}")


def check_quantisation(name: str, config: dict[str, Any]) -> None:
    """Raise ``ModelMissingError`` if this machine lacks a package that the quantised weights of a model need."""
    if quantisation_of(name, config) is None:
        return
    method = _method(config["quantization_config"])
    missing = [package for package in PACKAGES[method] if not _is_installed(package)]
    if missing:
        raise ModelMissingError(
            f"model is {shown(name)}; its weights are quantised by {method}, which needs {' and '.join(missing)}; "
            f"pip install {' '.join(missing)}"
        )


def bits_of(quantization_config: dict[str, Any]) -> int | None:
    """Return the bits of a weight, where the configuration says so."""
    for field, bits in _BITS.items():
        if quantization_config.get(field) is True:
            return bits
    for field in ("bits", "w_bit"):
        if type(quantization_config.get(field)) is int:
            return int(quantization_config[field])
    return {"fp8": 8, "mxfp4": 4}.get(str(_method(quantization_config)))


def _method(quantization_config: dict[str, Any]) -> Any:
    """Return the method; bitsandbytes once named none."""
    by_bits = "bitsandbytes" if any(field in quantization_config for field in _BITS) else None
    return quantization_config.get("quant_method") or by_bits


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
