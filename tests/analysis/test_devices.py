"""Tests count the cores that other processes kept busy beside a trial."""

import pandas as pd
import pytest

from analysis.devices import others_cores


def trials(*others_cpu_s):
    """Trials of 10, 20, ... seconds."""
    start = pd.Timestamp("2026-01-01", tz="UTC")
    lengths = [10 * (n + 1) for n in range(len(others_cpu_s))]
    ends = [start + pd.Timedelta(seconds=length) for length in lengths]
    return pd.DataFrame({"others_cpu_s": list(others_cpu_s), "started_at": start, "ended_at": ends})


def test_cores_of_others():
    """Catches a mean over trials in which a short one weighs as much as a long one, and 0 for what nobody measured."""
    assert others_cores(trials(10.0, 5.0)) == pytest.approx(0.5)
    assert others_cores(trials(10.0, None)) is None
    assert others_cores(trials(1.0).iloc[:0]) is None
