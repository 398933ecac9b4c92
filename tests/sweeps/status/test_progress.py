"""The display: counts, time left and both ways to draw."""

import dataclasses
import io

import pytest
from rich.console import Console

from harness.spec import TrialSpec
from sweeps.language.sweep_spec import SweepSpec
from sweeps.plan.cost import Cost
from sweeps.plan.planning import Plan
from sweeps.status import progress
from sweeps.status.progress import Progress, last_line

SPECS = tuple(TrialSpec(seed=seed) for seed in range(4))
PLAN = Plan(
    sweep=SweepSpec(name="s", trials=SPECS),
    done=(),
    pending=SPECS,
    left_out=(),
    missing={},
    next_attempt={spec.trial_id: 1 for spec in SPECS},
    costs={spec.trial_id: Cost(100, 10) for spec in SPECS},
)


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_counts_and_time_left(clock, make_result):
    """Catches a killed attempt counted as a failed trial, and a time left that ignores samples under way."""
    shown = Progress(PLAN, Console(file=io.StringIO(), width=200))
    assert shown.seconds_left() is None
    shown.begin(0, SPECS[0])
    shown.begin(1, SPECS[1])
    clock[0] = 30.0
    shown.samples(0, SPECS[0].trial_id, 1, 2)
    shown.samples(1, SPECS[3].trial_id, 2, 2)  # old news
    assert shown.seconds_left() == pytest.approx(30 * 3.5 / 0.5)
    shown.attempt_ended(1, make_result(SPECS[1], status="killed"), final=False)
    assert (shown.ok, shown.failed) == (0, 0)
    clock[0] = 60.0
    shown.attempt_ended(0, make_result(SPECS[0]), final=True)
    shown.attempt_ended(None, make_result(SPECS[1], status="killed", attempt=2), final=True)
    assert (shown.ok, shown.failed) == (1, 1)
    assert shown.seconds_left() == pytest.approx(60 * 2 / 2)


def test_shards(clock, make_result):
    """Catches samples and work of a trial in shards that are counted twice or not at all, and one shown as several."""
    spec = TrialSpec(shards=2, seed=9)
    plan = dataclasses.replace(
        PLAN,
        sweep=dataclasses.replace(PLAN.sweep, trials=(*SPECS, spec)),
        pending=(*PLAN.pending, spec),
        costs={**PLAN.costs, spec.trial_id: PLAN.costs[SPECS[0].trial_id]},
    )
    all_work = len(plan.pending)
    shown = Progress(plan, Console(file=io.StringIO(), width=200))
    shown.begin(0, spec)
    shown.begin(1, spec)
    clock[0] = 30.0
    shown.samples(0, spec.trial_id, 1, 2)
    assert (shown.snapshot().n_running, shown.snapshot().samples_done) == (1, 1)
    assert shown.seconds_left() == pytest.approx(30 * (all_work - 0.25) / 0.25)
    shown.shard_ended(0, 2)
    assert shown.snapshot().samples_done == 2
    assert shown.seconds_left() == pytest.approx(30 * (all_work - 0.5) / 0.5)
    shown.samples(1, spec.trial_id, 1, 2)
    shown.attempt_ended(1, make_result(spec, samples=4), final=True)
    assert (shown.ok, shown.snapshot().n_running, shown.snapshot().samples_done) == (1, 0, 4)
    assert shown.seconds_left() == pytest.approx(30 * (all_work - 1) / 1)
    shown.begin(0, SPECS[0])
    shown.shard_ended(0, 0)
    assert (shown.snapshot().n_running, shown.snapshot().samples_done) == (0, 4)


def test_plain_lines_where_there_is_no_terminal(clock, make_result):
    """Catches control characters in a log file, and a failure without its reason."""
    out = io.StringIO()
    with Progress(PLAN, Console(file=out, width=200)) as shown:
        shown.begin(0, SPECS[0])
        clock[0] = 90.0
        shown.attempt_ended(0, make_result(SPECS[0]), final=True)
        shown.begin(0, SPECS[1])
        shown.attempt_ended(0, make_result(SPECS[1], status="oom"), final=True)
        shown.say("[not markup]")
    assert out.getvalue().splitlines() == [
        "[1/4] ok in 90 s: recall, 3 agents, dense, seed 0, accuracy 0.50 (4 min 30 s left)",
        "[2/4] oom in 0 s: recall, 3 agents, dense, seed 1: ValueError: attempt 1 went wrong",
        "[not markup]",
    ]


def test_live_in_a_terminal(clock, make_result):
    """Catches a display that leaves out what runs, fails or is left."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=200, color_system=None)
    with Progress(PLAN, console) as shown:
        clock[0] = 60.0
        shown.begin(0, SPECS[0])
        shown.attempt_ended(0, make_result(SPECS[0]), final=True)
        shown.begin(0, SPECS[1])
        shown.begin(1, SPECS[2])
        shown.samples(1, SPECS[2].trial_id, 3, 12)
    drawn = out.getvalue()
    for part in ("1 ok, 2 running, 1 to go", " so far, 1.0 trials/min, 2 min 12 s left; 2 of 1 replicas ready"):
        assert part in drawn
    assert "replica 0: recall, 3 agents, dense, seed 1, loading, for 0 s" in drawn
    assert "replica 1: recall, 3 agents, dense, seed 2, sample 3/12" in drawn


def test_last_line():
    """Catches a whole traceback in the display, or a crash on a failure without a reason."""
    assert last_line("Traceback\n  File\nValueError: x\n\n") == "ValueError: x"
    assert last_line(None) == last_line("") == "no reason known"
