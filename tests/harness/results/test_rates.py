"""Rates of reuse and accuracy, worked by hand.

These tests would catch a turn that reused a part counted as one that reused all, an unparsable answer counted as right
or left out, a mean of shares in place of a share of sums, and a 0 where nothing is known.
"""

import pandas as pd

from harness.results.rates import accuracy, beyond_prefix_rate, token_reuse_rate, turn_reuse_rate


def test_rates_by_hand():
    assert turn_reuse_rate(["dense", "partial", "reuse", "reuse"]) == 0.5
    assert token_reuse_rate([10, 0], [10, 90]) == 0.1
    assert accuracy(["correct", "wrong", "unparsable", "error"]) == 0.25


def test_reuse_beyond_a_prefix_by_hand():
    """Would catch a mean of rates, and a turn that reused less than the cache would have counted as 0."""
    assert beyond_prefix_rate([90, 0], [30, 20], [100, 60]) == 40 / 160
    assert beyond_prefix_rate([0], [20], [50]) == -0.4
    assert beyond_prefix_rate([], [], []) is None


def test_nothing_is_unknown():
    assert turn_reuse_rate([]) is accuracy([]) is token_reuse_rate([], []) is None


def test_columns_of_a_table_do_as_well():
    turns = pd.DataFrame({"mode": ["reuse", "dense"], "reused_tokens": [3, 0], "prompt_tokens": [4, 4]})
    assert turn_reuse_rate(turns["mode"]) == 0.5
    assert token_reuse_rate(turns["reused_tokens"], turns["prompt_tokens"]) == 0.375
