"""Fixtures shared with the other floors' tests, and results on disk."""

import pytest
from made_up import make_result

from harness.results.parquet_files import ResultsWriter

__all__ = ["make_result"]


@pytest.fixture
def write(tmp_path):
    """``write(*results)`` into the sweep named in their rows; gives the results folder."""

    def write(*results):
        for result in results:
            writer = ResultsWriter(tmp_path, result.trial.sweep)
            writer.write(result)
            writer.close()
        return tmp_path

    return write
