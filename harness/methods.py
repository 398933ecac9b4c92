"""Methods by name: the built-in ones, and those of elsewhere."""

from typing import Final

from harness.extensions import UnknownNameError, find, short_name, version_of
from kvcomm_core.config import MethodConfig

GROUP: Final = "methods"

BUILT_IN: Final = {
    "dense": "kvcomm_core.methods.baseline_config:DenseConfig",
    "prefix": "kvcomm_core.methods.baseline_config:PrefixConfig",
    "naive": "kvcomm_core.methods.baseline_config:NaiveConfig",
    "epic": "kvcomm_core.methods.baseline_config:EpicConfig",
    "infoflow": "kvcomm_core.methods.baseline_config:InfoFlowConfig",
    "relay": "kvcomm_core.methods.baseline_config:RelayConfig",
    "cacheblend": "kvcomm_core.methods.baseline_config:CacheBlendConfig",
    "kvcomm": "kvcomm_core.config:KVCommConfig",
}


def find_method(name: str) -> type[MethodConfig]:
    """Return the class of a method's parameters. Raise ``UnknownNameError`` if the name is none of a method."""
    found = find(GROUP, name, BUILT_IN)
    if not (isinstance(found, type) and issubclass(found, MethodConfig)):
        raise UnknownNameError(f"it is no class of MethodConfig; allowed: {', '.join(BUILT_IN)}, or module:Class")
    return found


def parameters_key(method: str) -> str:
    """Return the key of a method's parameters in sweep files and records."""
    return short_name(method)


def method_version(name: str) -> str | None:
    """Return the version of a plug-in, or None for a built-in method."""
    return version_of(GROUP, name, BUILT_IN)
