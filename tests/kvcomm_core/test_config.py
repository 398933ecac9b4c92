"""Parameters that are refused."""

import pytest

from kvcomm_core.config import KVCommConfig


def test_running_means_are_not_kept_in_int8() -> None:
    """Would catch a grid over storages that runs ``mean`` twice under two names."""
    with pytest.raises(ValueError, match="storage is 'int8'; allowed: model, with estimator mean"):
        KVCommConfig(estimator="mean", storage="int8")
