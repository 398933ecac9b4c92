"""What a plan takes in all, against cases worked by hand."""

import pytest

from harness.spec import TrialSpec
from harness.workloads.ttft import TtftSpec
from sweeps.language.sweep_spec import SweepSpec
from sweeps.plan.cost import Cost
from sweeps.plan.planning import Plan
from sweeps.plan.time_estimate import estimate, spell_hours, spell_time

TRIALS = [TrialSpec(seed=0), TrialSpec(seed=1, method="kvcomm"), TrialSpec(seed=2)]


def plan_of(trials, seconds, *, on_gpu=False, **settings):
    """A plan of trials that take ``seconds``, twice as long from above, half of that prefill; None is unknown."""
    costs = {}
    for trial, low in zip(trials, seconds, strict=True):
        known = low is not None
        phases = {"prefill": low, "decoding": low / 2, "other": low / 2} if known else {}
        costs[trial.trial_id] = Cost(1, 1, low, 2 * low if known else None, phases, on_gpu, "9 earlier trials on cpu")
    sweep = SweepSpec(name="s", trials=tuple(trials), **settings)
    numbers = dict.fromkeys(costs, 1)
    return Plan(sweep, (), tuple(trials), (), {}, next_attempt=numbers, costs=costs)


@pytest.mark.parametrize(
    ("seconds", "replicas", "wall"),
    [
        ([100, 100, 100], 1, 300),
        ([100, 100, 100], 2, 150),
        ([100, 100, 100], 9, 100),
        ([400, 100, 100], 2, 400),
    ],
)
def test_time_on_several_replicas(seconds, replicas, wall):
    """Catches a trial spread over replicas, and replicas that have nothing to do counted."""
    found = estimate(plan_of(TRIALS, seconds, replicas=replicas))
    assert (found.low_s, found.high_s) == (wall, 2 * wall)
    assert (found.n_known, found.n_unknown) == (3, 0)


def test_timings_run_alone_on_a_cpu():
    """Catches timings of a CPU spread over replicas, which run one after another."""
    trials = [TRIALS[0], TRIALS[2], *(TrialSpec(seed=seed, workload=TtftSpec()) for seed in (3, 4))]
    assert estimate(plan_of(trials, [10, 10, 10, 10], replicas=2)).low_s == 10 + 20
    assert estimate(plan_of(trials, [10, 10, 10, 10], replicas=2, on_gpu=True)).low_s == 20


def test_shards_of_one_trial_run_side_by_side():
    """Catches a long trial that no number of replicas shortens though it has shards."""
    trial = TrialSpec(shards=4)
    assert estimate(plan_of([trial], [100], replicas=2)).low_s == 50
    assert estimate(plan_of([trial], [100], replicas=8)).low_s == 25


def test_gpu_hours():
    """Catches GPU hours of a CPU, and hours that shrink with the number of replicas."""
    assert estimate(plan_of(TRIALS, [3600, 3600, 3600])).gpu_hours_high == 0
    found = estimate(plan_of(TRIALS, [3600, 3600, 3600], on_gpu=True, replicas=3, gpus_per_replica=2))
    assert (found.gpu_hours_low, found.gpu_hours_high) == (6.0, 12.0)
    assert estimate(plan_of(TRIALS, [3600, 0, 0], on_gpu=True)).gpu_hours_low == 1.0


def test_what_dominates_and_what_is_not_known():
    """Catches shares of another sum, and unknown trials that count as nothing without a word."""
    found = estimate(plan_of(TRIALS, [100, 300, None]))
    assert found.by_method == {"kvcomm": 0.75, "dense": 0.25}
    assert found.by_phase == {"prefill": 0.5, "decoding": 0.25, "other": 0.25}
    assert (found.longest, found.longest_s) == (TRIALS[1].trial_id, 600)
    assert (found.n_known, found.n_unknown) == (2, 1)
    assert found.sources == ("9 earlier trials on cpu",)
    assert estimate(plan_of(TRIALS, [None, None, None])) is None


def test_spelled_times():
    """Catches a range without a difference, and one that is hidden."""
    assert spell_time(90, 100) == "about 1 min 40 s"
    assert spell_time(90, 1200) == "1 min 30 s to 20 min"
    assert spell_time(3610, 3610) == "about 1 h 00 min"
    assert spell_hours(0.0, 0.0) == "-"
    assert spell_hours(1.0, 1.1) == "1.1"
    assert spell_hours(0.5, 1234.0) == "0.5 to 1,234"
