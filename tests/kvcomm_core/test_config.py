"""Parameters that are refused."""

import pytest

from kvcomm_core.config import KVCommConfig
from kvcomm_core.methods.baseline_config import CacheBlendConfig


def test_running_means_are_not_kept_in_int8() -> None:
    """Would catch a grid over storages that runs ``mean`` twice under two names."""
    with pytest.raises(ValueError, match="storage is 'int8'; allowed: model, with estimator mean"):
        KVCommConfig(estimator="mean", storage="int8")


def test_cacheblend_takes_any_share_and_two_selections() -> None:
    """Would catch a share of 0, the last text alone, that is refused, and a misspelt selection that runs."""
    assert [CacheBlendConfig(ratio=ratio).ratio for ratio in (0.0, 1.0)] == [0.0, 1.0]
    for ratio in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=f"ratio is {ratio}; allowed: 0 to 1"):
            CacheBlendConfig(ratio=ratio)
    with pytest.raises(ValueError, match="select is 'both'; allowed: values, keys"):
        CacheBlendConfig(select="both")  # type: ignore[arg-type]
