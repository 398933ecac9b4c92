"""Fixtures shared with the other floors' tests, and results on disk."""

from functools import partial

import pytest
from made_up import make_result, write_results

__all__ = ["make_result"]


@pytest.fixture
def write(tmp_path):
    """``write(*results)`` into the sweep named in their rows; gives the results folder."""
    return partial(write_results, tmp_path)
