"""The numbers of a run that compare it with others: those of ``analysis``, known once the other trial is there."""

import dataclasses

import pytest
from made_up import write_results

from analysis import measures
from analysis.arms import Arms
from analysis.results import Results
from harness.results.read_back import AttemptReader, read_rows
from harness.spec import TrialSpec
from sweeps.tracking import comparisons
from sweeps.tracking.comparisons import ESTIMATES, Comparisons

DENSE, KVCOMM = TrialSpec(agents=2), TrialSpec(agents=2, method="kvcomm")
SIX = {"samples": 6}


def compared(folder):
    found = Comparisons(AttemptReader(folder / "s"))
    for row in read_rows(folder / "s"):
        found.add(row)
    return found


def test_a_speedup_needs_its_dense_trial(tmp_path, make_result):
    """Catches a speedup that is 0 or 1 where there is nothing to compare with, and one that stays unknown after."""
    write_results(tmp_path, make_result(KVCOMM, **SIX))
    before = compared(tmp_path)
    alone = before.metrics(KVCOMM.trial_id)
    assert alone["ttft_reuse_s"] == pytest.approx(0.1)
    assert not {"speedup", "ttft_dense_s", "accuracy_change", "kl", "speedup_low"} & alone.keys()
    write_results(tmp_path, make_result(DENSE, **SIX))
    [dense] = [row for row in read_rows(tmp_path / "s") if row.method == "dense"]
    before.add(dense)
    assert before.depend_on(DENSE.trial_id) == [KVCOMM.trial_id]
    assert before.depend_on(KVCOMM.trial_id) == []
    metrics = before.metrics(KVCOMM.trial_id)
    assert metrics["speedup"] == metrics["speedup_low"] == metrics["speedup_high"] == pytest.approx(2.0)
    assert metrics["ttft_dense_s"] == pytest.approx(0.2)
    assert metrics["accuracy_change"] == 0.0


def test_the_numbers_are_those_of_the_analysis(tmp_path, make_result):
    """Catches a second formula, another unit, and an interval of another measure."""
    write_results(tmp_path, make_result(DENSE, **SIX), make_result(KVCOMM, **SIX), make_result(TrialSpec(), **SIX))
    arm = Arms(Results(tmp_path)).of([KVCOMM.trial_id])
    metrics = compared(tmp_path).metrics(KVCOMM.trial_id)
    for name, factor in (("accuracy", 0.01), ("token_reuse", 0.01), ("turn_reuse", 0.01), ("ttft_sum_speedup", 1.0)):
        key = f"{name}_rate" if "reuse" in name else name
        estimate = getattr(measures, name)(arm).scaled(factor)
        found = metrics[key], metrics[f"{key}_low"], metrics[f"{key}_high"]
        assert found == pytest.approx((estimate.value, estimate.low, estimate.high), rel=1e-3)
    assert 0 < metrics["accuracy_low"] < metrics["accuracy"] < metrics["accuracy_high"] < 1


def test_dense_is_not_compared_with_itself(tmp_path, make_result):
    """Catches a change of accuracy of 0 points, with an interval, for the trial that all others are compared with."""
    write_results(tmp_path, make_result(DENSE, **SIX))
    metrics = compared(tmp_path).metrics(DENSE.trial_id)
    assert not {"accuracy_change", "speedup", "ttft_reuse_s", "latency_speedup"} & metrics.keys()
    assert metrics["accuracy"] == 0.5


def test_another_device_is_nothing_to_compare_with(tmp_path, make_result):
    """Catches a speedup of one GPU over another."""
    dense = make_result(DENSE, **SIX)
    row = dataclasses.replace(dense.trial, device="cuda:0 NVIDIA H100")
    write_results(tmp_path, dataclasses.replace(dense, trial=row), make_result(KVCOMM, **SIX))
    found = compared(tmp_path)
    assert "speedup" not in found.metrics(KVCOMM.trial_id)
    assert found.depend_on(DENSE.trial_id) == []


def test_no_interval_from_few_items_and_no_number_without_a_result(tmp_path, make_result):
    """Catches an interval of three items, and numbers of a trial that failed."""
    write_results(tmp_path, make_result(DENSE, samples=3), make_result(KVCOMM, status="error"))
    found = compared(tmp_path)
    assert "latency_speedup_low" not in found.metrics(DENSE.trial_id)
    assert "token_reuse_rate_low" not in found.metrics(DENSE.trial_id)
    assert found.metrics(KVCOMM.trial_id) == {}
    assert found.metrics("unknown") == {}


def test_infinity_is_left_out(tmp_path, make_result, monkeypatch):
    """Catches the largest float in place of infinity."""
    write_results(tmp_path, make_result(DENSE, **SIX))
    monkeypatch.setattr(comparisons, "ESTIMATES", {"x": (ESTIMATES["accuracy"][0], float("inf"))})
    assert compared(tmp_path).metrics(DENSE.trial_id) == {}
