"""Which trial a replica is given next."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from harness.spec import TrialSpec
from sweeps.run.trial_queue import Job, TrialQueue

HERE, OTHER = ("embedded", "auto", "model"), ("random:llama-3.1-8b", "auto", "model")
DENSE, REUSE = TrialSpec(), TrialSpec(method="kvcomm")
NEXT, FOREIGN = TrialSpec(seed=1), TrialSpec(seed=2, model=OTHER[0])


def queue(*specs, work=None):
    return TrialQueue(Job(spec, 1, (work or {}).get(spec, 1.0)) for spec in specs)


def test_preferences():
    """Catches arms of one comparison spread over replicas while others are free, and models loaded needlessly."""
    trials = queue(DENSE, REUSE, NEXT, FOREIGN)
    assert trials.take(0, HERE, set()).spec == DENSE
    assert trials.take(1, None, {HERE}).spec == FOREIGN, "a new replica takes a model nobody has"
    assert trials.take(0, HERE, {OTHER}).spec == REUSE, "its own group comes first"
    trials = queue(DENSE, REUSE, NEXT, FOREIGN)
    assert trials.take(0, HERE, set()).spec == DENSE
    assert trials.take(1, HERE, {HERE}).spec == NEXT, "then a group nobody has begun, with the model it has"
    assert trials.take(1, HERE, {HERE}).spec == FOREIGN, "then one with another model"
    assert trials.take(1, OTHER, {HERE}).spec == REUSE, "rather than idle, it helps another replica"
    assert len(trials) == 0


def test_longest_first():
    """Catches a long trial left for the end, among the groups, within one, and among those of other replicas."""
    longer = TrialSpec(seed=3, method="kvcomm")
    shorter = longer.dense_counterpart()
    trials = queue(DENSE, shorter, longer, REUSE, work={DENSE: 1, REUSE: 2, shorter: 3, longer: 4})
    assert [trials.take(0, HERE, set()).spec for _ in range(4)] == [longer, shorter, REUSE, DENSE]


def test_what_is_put_back_stays_with_its_replica():
    """Catches a retried trial that is lost or loses its attempt number, or moves away from its group."""
    trials = queue(DENSE, REUSE, NEXT)
    first = trials.take(0, HERE, set())
    trials.put_back(first.again(2))
    assert len(trials) == 3
    again = trials.take(0, HERE, set())
    assert (again.spec, again.attempt, again.tries) == (first.spec, 2, 2)
    assert trials.take(1, HERE, set()).spec == NEXT


def test_trials_of_a_model_are_dropped():
    """Catches a trial of a model that cannot be loaded being tried all the same, and others dropped with it."""
    trials = queue(DENSE, REUSE, NEXT, FOREIGN)
    trials.take(0, HERE, set())
    assert {job.spec for job in trials.drop(lambda job: job.model == HERE)} == {REUSE, NEXT}
    assert len(trials) == 1
    assert trials.take(0, HERE, set()).spec == FOREIGN


def test_shards_are_spread_and_their_arms_are_not():
    """Catches shards of one trial queued behind each other on one replica while another is free, and the arms of a
    shard on different hardware."""
    dense = TrialSpec(shards=2)
    reuse = dataclasses.replace(dense, method="kvcomm")
    trials = TrialQueue(Job(spec, 1, 1.0, shard=shard) for spec in (dense, reuse) for shard in range(2))
    taken = [[trials.take(replica, HERE, set()) for replica in (0, 1)] for _ in range(2)]
    assert [[(job.spec, job.shard) for job in jobs] for jobs in taken] == [
        [(dense, 0), (dense, 1)],
        [(reuse, 0), (reuse, 1)],
    ]


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["dense", "kvcomm", "naive"])), unique=True), st.data())
def test_every_trial_comes_out_once(cells, data):
    """Catches a trial that is lost or given twice, whatever the order of requests and retries."""
    specs = [TrialSpec(seed=seed, method=method) for seed, method in cells]
    trials = queue(*specs, work={spec: data.draw(st.integers(1, 3)) for spec in specs})
    out = []
    while trials:
        job = trials.take(data.draw(st.integers(0, 2)), data.draw(st.sampled_from([None, HERE, OTHER])), {HERE})
        if job.tries == 1 and data.draw(st.booleans()):
            trials.put_back(job.again(job.attempt + 1))
        else:
            out.append(job.spec)
    assert len(out) == len(specs)
    assert set(out) == set(specs)
