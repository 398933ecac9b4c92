"""A replica keeps its model and says which trial it reports on."""

import pytest

from harness.replica import ModelLoadError, Replica
from harness.results.checkpoint import Checkpoints
from harness.spec import TrialSpec
from harness.workloads.blend import BlendSpec


def test_model_is_loaded_once_until_another_is_wanted(make_result):
    """Catches a model loaded for every trial, and one that stays when another dtype is asked for."""
    loaded, seen = [], []

    def load(name, *, dtype, weights):
        loaded.append((name, dtype))
        return f"{name}/{dtype}"

    def run(spec, model, *, sweep, attempt, on_sample):
        seen.append(model)
        return make_result(spec, sweep=sweep, attempt=attempt)

    replica = Replica(cpus=1, load=load, run=run, report=lambda *_: None)
    for spec in (TrialSpec(), TrialSpec(seed=1), TrialSpec(dtype="bfloat16"), TrialSpec(model="other")):
        result = replica.run(spec, "sweep", 3)
        assert (result.trial.trial_id, result.trial.sweep, result.trial.attempt) == (spec.trial_id, "sweep", 3)
    assert loaded == [("embedded", "auto"), ("embedded", "bfloat16"), ("other", "auto")]
    assert seen == ["embedded/auto", "embedded/auto", "embedded/bfloat16", "other/auto"]


def test_no_model_is_loaded_for_a_trial_that_needs_none(make_result):
    """Catches 16 GB of weights read for a micro-benchmark, and a warm model dropped for it."""
    loaded, seen = [], []

    def run(spec, model, **_):
        seen.append(model)
        return make_result(spec)

    def load(name, *, dtype, weights):
        loaded.append(name)
        return name

    replica = Replica(cpus=1, load=load, run=run, report=lambda *_: None, exclusive=True)
    blend = TrialSpec(model="big", workload=BlendSpec(), method="kvcomm")
    results = [replica.run(spec, "s", 1) for spec in (TrialSpec(), blend, TrialSpec(seed=1))]
    assert (loaded, seen) == (["embedded"], ["embedded", None, "embedded"])
    assert {result.trial.exclusive for result in results} == {True}


def test_model_that_cannot_be_loaded(make_result):
    """Catches a failed load that passes for the earlier model."""

    def load(name, *, dtype, weights):
        if name == "bad":
            raise OSError("no weights")
        return name

    replica = Replica(cpus=1, load=load, run=lambda spec, model, **_: make_result(spec), report=lambda *_: None)
    replica.run(TrialSpec(), "s", 1)
    for _ in range(2):
        with pytest.raises(ModelLoadError, match="model 'bad' cannot be loaded: no weights"):
            replica.run(TrialSpec(model="bad"), "s", 1)
    assert replica.run(TrialSpec(), "s", 1).trial.status == "ok"


def test_reports_carry_the_trial(make_result):
    """Catches progress of one trial shown beside the name of the next, and a model that seems to load for ever."""
    reports = []

    def run(spec, model, *, sweep, attempt, on_sample):
        on_sample(1, 2)
        return make_result(spec)

    Replica(cpus=1, load=lambda name, dtype, weights: name, run=run, report=lambda *post: reports.append(post)).run(
        TrialSpec(), "s", 1
    )
    assert reports == [(TrialSpec().trial_id, 0, None), (TrialSpec().trial_id, 1, 2)]


def test_a_shard_is_asked_for_by_its_number(make_result):
    """Would catch shard 0 taken for the whole trial."""
    asked = []

    def run(spec, model, *, sweep, attempt, on_sample, **shard):
        asked.append(shard)
        return make_result(spec)

    replica = Replica(cpus=1, load=lambda name, dtype, weights: name, run=run, report=lambda *_: None)
    for shard in (None, 0, 2):
        replica.run(TrialSpec(shards=3), "s", 1, shard)
    assert asked == [{}, {"shard": 0}, {"shard": 2}]


def test_a_node_without_the_results_folder_says_so_once(make_result, tmp_path):
    """Would catch trials that leave no checkpoints without a word, or with one per trial."""
    run = lambda spec, model, **_: make_result(spec)  # noqa: E731

    def messages(folder):
        replica = Replica(
            cpus=1,
            load=lambda name, dtype, weights: name,
            run=run,
            report=lambda *_: None,
            checkpoints=Checkpoints(folder, 1.0),
        )
        return [replica.run(TrialSpec(), "s", 1).messages for _ in range(2)]

    gone = tmp_path / "gone"
    assert messages(gone) == [[f"{gone} is not there on here: trials on it leave no checkpoints"], []]
    assert messages(tmp_path) == [[], []]
