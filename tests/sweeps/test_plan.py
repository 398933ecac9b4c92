"""The plan: what is done, what is pending, what cannot run, and what it costs."""

import dataclasses

import pytest

from harness import workloads
from harness.agents import roles_for
from harness.spec import TrialSpec
from harness.store import ResultsWriter
from harness.workloads import BlendSpec, DataMissingError, TtftSpec
from harness.workloads.gsm8k import Gsm8kSpec
from harness.workloads.recall import RecallSpec
from kvcomm_core.model_source import ModelError
from sweeps.plan import Cost, make_plan
from sweeps.spec import SweepSpec
from sweeps.sweep_file import SweepError

DENSE, REUSE = TrialSpec(), TrialSpec(method="kvcomm")
MODEL = "random:smollm2-135m"


@pytest.fixture(autouse=True)
def _no_gsm8k(monkeypatch):
    load = workloads.load

    def load_but_gsm8k(spec, seed):
        if spec.name == "gsm8k":
            raise DataMissingError("put the file there")
        return load(spec, seed)

    monkeypatch.setattr(workloads, "load", load_but_gsm8k)


def sweep_of(*trials, **settings):
    trials = [dataclasses.replace(trial, model=MODEL) for trial in trials]
    return SweepSpec(name="s", trials=tuple(trials), **settings)


def test_finished_trials_are_not_pending(tmp_path, make_result):
    """Catches a resume that runs everything again, or counts a failed trial as done."""
    sweep = sweep_of(DENSE, REUSE)
    dense, reuse = sweep.trials
    assert make_plan(sweep, tmp_path).pending == (dense, reuse)
    assert list(tmp_path.iterdir()) == []
    writer = ResultsWriter(tmp_path, "s")
    writer.write(make_result(dense, attempt=1))
    writer.write(make_result(reuse, attempt=1, status="error"))
    plan = make_plan(sweep, tmp_path)
    assert (plan.done, plan.pending) == ((dense,), (reuse,))
    assert plan.next_attempt == {reuse.trial_id: 2}
    assert set(plan.costs) == {reuse.trial_id}
    writer.close()


def test_missing_data_leaves_out_only_if_asked_to(tmp_path):
    """Catches trials skipped silently, and a sweep that fails at night for want of a file."""
    gsm8k = TrialSpec(workload=Gsm8kSpec())
    plan = make_plan(sweep_of(DENSE, gsm8k, skip_if_missing=("gsm8k",)), tmp_path)
    assert [trial.workload.name for trial in plan.pending] == ["recall"]
    assert [trial.workload.name for trial in plan.left_out] == ["gsm8k"]
    assert plan.missing == {"gsm8k": "put the file there"}
    with pytest.raises(SweepError, match="put the file there"):
        make_plan(sweep_of(DENSE, gsm8k), tmp_path)


def test_missing_data_of_finished_trials_is_not_missed(tmp_path, make_result):
    """Catches a resume that needs data which no pending trial reads."""
    sweep = sweep_of(TrialSpec(workload=Gsm8kSpec()))
    writer = ResultsWriter(tmp_path, "s")
    writer.write(make_result(sweep.trials[0]))
    writer.close()
    assert make_plan(sweep, tmp_path).pending == ()


def test_unknown_model_is_refused_before_anything_runs(tmp_path):
    """Catches a model name that is first looked at by a replica."""
    with pytest.raises(ModelError, match="model is 'nonsense'"):
        make_plan(SweepSpec(name="s", trials=(TrialSpec(model="nonsense"),)), tmp_path)


def test_cost_of_timings(tmp_path):
    """Catches arms, the warm-up or the filling of pools left out of what a timing costs, and a made-up duration."""
    workload = TtftSpec(prefix_tokens=5, input_tokens=7, output_tokens=3, anchors=2, repeats=4)
    dense = TrialSpec(agents=2, workload=workload)
    reuse = dataclasses.replace(dense, method="kvcomm")
    decoded = dataclasses.replace(reuse, workload=dataclasses.replace(workload, decode=True))
    blend = TrialSpec(workload=BlendSpec(), method="kvcomm")
    plan = make_plan(sweep_of(dense, reuse, decoded, blend), tmp_path)
    both = (5 + 7 + 4) + (5 + 7 + 3 + 8)
    assert list(plan.costs.values()) == [
        Cost(5 * 2 * both, 0, None),
        Cost((5 * 3 + 1) * both, 0, None),
        Cost((5 * 3 + 1) * both, (5 * 2 + 1) * 2 * 3, None),
        Cost(0, 0, None),
    ]


def test_timings_say_nothing_about_rates(tmp_path, make_result):
    """Catches seconds per token taken from turns of several methods, or from answers that were not decoded."""
    sweep = sweep_of(DENSE)
    writer = ResultsWriter(tmp_path, "other")
    writer.write(make_result(dataclasses.replace(sweep.trials[0], workload=TtftSpec())))
    writer.close()
    assert make_plan(sweep, tmp_path).costs[sweep.trials[0].trial_id].seconds is None


def test_a_shape_that_is_not_known_is_refused(tmp_path):
    """Catches a micro-benchmark that fails on the replica, for want of a configuration to take the shape from."""
    (tmp_path / "some.gguf").write_text("")
    trial = TrialSpec(model=str(tmp_path / "some.gguf"), workload=BlendSpec(), method="kvcomm")
    with pytest.raises(ModelError, match="allowed where only its shape counts: embedded, random:, a Hub id, a folder"):
        make_plan(SweepSpec(name="s", trials=(trial,)), tmp_path)


def test_cost_of_several_rounds(tmp_path):
    """Catches rounds that are not counted, and answers of the last round left out of the later prompts."""
    specs = [TrialSpec(rounds=n, max_new_tokens=50, workload=RecallSpec(limit=4), model=MODEL) for n in (1, 3)]
    one, three = make_plan(SweepSpec(name="s", trials=tuple(specs)), tmp_path).costs.values()
    assert three.output_tokens == 3 * one.output_tokens
    # In two of the rounds, each of 3 agents reads 3 answers of the last round, for each of 4 items.
    assert three.prompt_tokens == 3 * one.prompt_tokens + 2 * 3 * 3 * 50 * 4


def test_cost_counts_the_answers_that_a_topology_reads(tmp_path):
    """Catches every topology costed as if all read all."""
    specs = [
        TrialSpec(topology=name, agents=4, rounds=n, max_new_tokens=50, workload=RecallSpec(limit=2), model=MODEL)
        for name, n in (("fully_connected", 1), ("chain", 1), ("debate", 1), ("debate", 2))
    ]
    connected, chain, debate, again = make_plan(SweepSpec(name="s", trials=tuple(specs)), tmp_path).costs.values()
    assert connected.prompt_tokens - chain.prompt_tokens == 2 * (6 - 3) * 50
    assert connected.prompt_tokens - debate.prompt_tokens == 2 * (6 - 3) * 50
    # In the second round three workers also read three answers of the first, and the decision agent its own.
    assert again.prompt_tokens == 2 * debate.prompt_tokens + 2 * (3 * 3 + 1) * 50


def test_cost_in_tokens_and_by_earlier_rates(tmp_path, make_result):
    """Catches upstream answers left out of prompts, and times made up without a record of the model."""
    spec = TrialSpec(agents=3, max_new_tokens=50, workload=RecallSpec(limit=4), model=MODEL)
    sweep = SweepSpec(name="s", trials=(spec,))
    texts = sum(20 + (len(role.system) + len(role.user)) // 4 for role in roles_for("recall", 3))
    questions = sum(len(item.question) for item in workloads.load(spec.workload, 0)) // 4
    prompt = 4 * texts + 3 * questions + 4 * (0 + 50 + 100)
    assert make_plan(sweep, tmp_path).costs == {spec.trial_id: Cost(prompt, 4 * 3 * 50, None)}
    writer = ResultsWriter(tmp_path, "other")
    writer.write(make_result(dataclasses.replace(spec, seed=9)))
    writer.close()
    # The made-up turns have 100 prompt tokens in 0.2 s and 11 output tokens in 1 s.
    seconds = make_plan(sweep, tmp_path).costs[spec.trial_id].seconds
    assert seconds == pytest.approx(prompt * 0.2 / 100 + 600 * 1.0 / 11)
