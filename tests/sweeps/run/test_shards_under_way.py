"""One result per trial from the jobs of its shards."""

import dataclasses

import pytest

from harness.spec import TrialSpec
from harness.workloads.recall import RecallSpec
from sweeps.run.shards_under_way import Gathering

WHOLE = TrialSpec(seed=1)
SHARDED = TrialSpec(workload=RecallSpec(limit=6), shards=3)


@pytest.fixture
def part(make_result):
    """``part(job, status)`` is what a replica makes of a job: of a shard, two samples at their places in the trial."""

    def make(job, status="ok"):
        result = make_result(job.spec, attempt=job.attempt, status=status)

        def place(records):
            shards = job.spec.shards
            return [dataclasses.replace(r, sample_index=job.shard + shards * r.sample_index) for r in records]

        return dataclasses.replace(result, turns=place(result.turns), samples=place(result.samples))

    return make


def test_the_last_shard_ends_the_trial(part):
    """Catches a trial recorded with some of its shards, or once per shard, and work counted for each of them."""
    gathering = Gathering()
    whole, *shards = gathering.jobs([(WHOLE, 1, 5.0), (SHARDED, 3, 6.0)])
    assert [(job.spec, job.shard, job.shard_to_run, job.work) for job in (whole, *shards)] == [
        (WHOLE, 0, None, 5.0),
        *((SHARDED, shard, shard, 2.0) for shard in range(3)),
    ]
    assert gathering.add(shards[2], part(shards[2])) is None
    assert gathering.add(shards[0], part(shards[0])) is None
    result = part(whole)
    assert gathering.add(whole, result) is result
    merged = gathering.add(shards[1], part(shards[1]))
    assert merged is not None
    assert (merged.trial.status, merged.trial.attempt, merged.trial.n_samples) == ("ok", 3, 6)
    assert [sample.sample_index for sample in merged.samples] == list(range(6))
    assert all(gathering.has_ended(job) for job in (whole, *shards))


def test_each_lost_shard_ends_an_attempt(part):
    """Catches two attempts of a trial under one number, of which the second would never reach the disk."""
    gathering = Gathering()
    first, second, third = gathering.jobs([(SHARDED, 1, 1.0)])
    recorded = []
    for lost in (first, second):
        recorded.append(gathering.attempt(lost))
        again = gathering.again(lost)
        assert (again.shard, again.tries, again.attempt) == (lost.shard, 2, recorded[-1] + 1)
        gathering.add(again, part(again))
    assert recorded == [1, 2]
    merged = gathering.add(third, part(third))
    assert merged is not None
    assert {row.attempt for row in (merged.trial, *merged.turns, *merged.samples)} == {3}


def test_one_failed_shard_ends_the_trial(part):
    """Catches a failure that waits for the other shards, or goes under an attempt that is on disk already."""
    gathering = Gathering()
    first, second, third = gathering.jobs([(SHARDED, 1, 1.0)])
    gathering.add(first, part(first))
    gathering.again(second)
    merged = gathering.add(third, part(third, "oom"))
    assert merged is not None
    assert (merged.trial.status, merged.trial.attempt, merged.samples) == ("oom", 2, [])
    assert merged.trial.error is not None
    assert merged.trial.error.startswith("shard 3 of 3: ")
    assert gathering.has_ended(first)
    assert gathering.has_ended(second)
