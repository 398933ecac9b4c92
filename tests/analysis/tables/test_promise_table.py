"""What a calibrated criterion promised, beside what the checks found.

These tests would catch turns that were not checked or not reused in the share, a limit that is not the trial's own, a
promise kept on average and broken in a trial, and a promise of criteria that make none.
"""

import dataclasses
import io

import pytest
from rich.console import Console

from analysis.results import Results
from analysis.tables.promise_table import promise_rows, show_promises
from harness.spec import TrialSpec
from kvcomm_core.config import KVCommConfig


def spec(criterion, seed=0, **fields):
    return TrialSpec(
        agents=2, method="kvcomm", seed=seed, parameters=KVCommConfig(criterion=criterion, max_kl=0.1, **fields)
    )


def judged(result, above):
    """Give the reused turns of all items from the third on a KL, above the limit where ``above`` says so."""
    turns = []
    for turn in result.turns:
        reused = turn.sample_index >= 2
        kl = (0.3 if above(turn) else 0.05) if reused and turn.sample_index != 3 else None
        turns.append(dataclasses.replace(turn, mode="reuse" if reused else "dense", kl_next_token=kl))
    return dataclasses.replace(result, turns=turns)


def test_a_promise_is_kept_trial_by_trial(write, make_result):
    good = judged(make_result(spec("calibrated", alpha=0.3), samples=8), lambda t: t.sample_index == 4)
    bad = judged(make_result(spec("calibrated", seed=1, alpha=0.3), samples=8), lambda t: t.sample_index in (4, 5))
    [row] = promise_rows(Results(write(good, bad)))
    assert (row.criterion, row.max_kl, row.alpha) == ("calibrated", 0.1, 0.3)
    checked = 2 * 2 * 5  # of samples 2 and 4 to 7, with two agents, in two trials
    assert (row.above.n, row.above.value) == (checked, pytest.approx(6 / checked))
    assert (row.kept, row.trials) == (1, 2)
    assert row.reuse_once_begun == 1.0


def test_reuse_counts_from_where_it_began(write, make_result):
    result = judged(make_result(spec("calibrated"), samples=6), lambda t: False)
    turns = [dataclasses.replace(t, mode="dense") if t.sample_index == 5 else t for t in result.turns]
    [row] = promise_rows(Results(write(dataclasses.replace(result, turns=turns))))
    assert row.reuse_once_begun == pytest.approx(3 / 4)


def test_who_promises_nothing_keeps_nothing(write, make_result):
    gated = judged(make_result(spec("gated"), samples=6), lambda t: t.sample_index == 4)
    always = judged(make_result(spec("always"), samples=6), lambda t: True)
    [row] = promise_rows(Results(write(gated, always)))
    assert (row.criterion, row.alpha, row.kept, row.trials) == ("gated", None, None, 1)


def test_the_table_shows_it_and_is_absent_without_checks(write, make_result):
    unchecked = make_result(spec("calibrated"), samples=4)
    unchecked = dataclasses.replace(
        unchecked, turns=[dataclasses.replace(turn, kl_next_token=None) for turn in unchecked.turns]
    )
    assert show_promises(Results(write(unchecked))).tables == []


def test_the_rendered_row(write, make_result):
    good = judged(make_result(spec("calibrated", alpha=0.3), samples=8), lambda t: t.sample_index == 4)
    console = Console(file=io.StringIO(), width=140)
    console.print(*show_promises(Results(write(good))).tables)
    text = console.file.getvalue()
    assert "20.0%" in text
    assert "30.0%" in text
    assert "1 of 1" in text
