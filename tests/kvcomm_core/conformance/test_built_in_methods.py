"""The built-in methods hold what every method must hold."""

import pytest

from harness.methods import BUILT_IN, find_method
from kvcomm_core.config import KVCommConfig, MethodConfig
from kvcomm_core.conformance.running import CHECKS, run_checks
from kvcomm_core.methods.baseline_config import CacheBlendConfig, InfoFlowConfig

UNLIKE = ("qwen2_moe", "gemma2", "glm4", "cohere2")
"""Families with experts; windows and caps; neighbouring pairs, partly rotated; layers without rotation.
``kvcomm check-method`` takes all thirty, in two minutes for each method."""

METHODS = [find_method(name)() for name in BUILT_IN]
VARIANTS = [
    KVCommConfig(gamma=1.0),
    KVCommConfig(gamma=0.0, fallback="partial"),
    KVCommConfig(gamma=0.0, fallback="prefix"),
    KVCommConfig(estimator="affine", criterion="always", base="in_place", fallback="prefix"),
    KVCommConfig(estimator="mean", criterion="always"),
    KVCommConfig(estimator="affine", criterion="always"),
    KVCommConfig(estimator="upstream", criterion="entropy_upstream"),
    KVCommConfig(storage="int8", placement="host", pool_bytes=200_000),
    CacheBlendConfig(ratio=0.0),
    CacheBlendConfig(ratio=1.0, select="keys"),
]


def failures(config: MethodConfig, **on: object) -> list[str]:
    return [
        f"{result.check.name} on {result.family}, {result.dtype}: {result.finding}"
        for result in run_checks(config, **on)  # type: ignore[arg-type]
        if result.finding
    ]


@pytest.mark.slow
@pytest.mark.parametrize("config", METHODS, ids=list(BUILT_IN))
def test_on_one_model(config: MethodConfig) -> None:
    """Would catch a check that refuses what is right, and a change of a method that breaks what others rely on."""
    of_family = [check for check in CHECKS if check.of_family]
    assert failures(config, families=("llama",), dtypes=("float32",), checks=of_family) == []


@pytest.mark.slow
@pytest.mark.parametrize("config", METHODS, ids=list(BUILT_IN))
def test_all_checks(config: MethodConfig) -> None:
    """Would catch the same in bfloat16, or in what is learnt."""
    assert failures(config, families=("llama",)) == []


@pytest.mark.slow
@pytest.mark.parametrize("family", UNLIKE)
def test_on_unlike_models(family: str) -> None:
    """Would catch the same in another family."""
    of_family = [check for check in CHECKS if check.of_family]
    assert failures(KVCommConfig(), families=(family,), checks=of_family) == []
    assert failures(InfoFlowConfig(), families=(family,), checks=of_family) == []


@pytest.mark.slow
@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_with_other_parameters(config: MethodConfig) -> None:
    """Would catch an option that breaks what its method holds without it."""
    assert failures(config, families=("llama",), dtypes=("float32",)) == []
