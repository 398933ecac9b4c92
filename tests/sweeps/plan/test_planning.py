"""The plan: what is done, what is pending, what cannot run, and what it costs."""

import dataclasses
import io
import sys

import pytest
from rich.console import Console

from harness.agents import roles_for
from harness.results.read_back import read_result, read_rows
from harness.results.results_writer import ResultsWriter
from harness.spec import TrialSpec
from harness.workloads import DataMissingError
from harness.workloads.blend import BlendSpec
from harness.workloads.gsm8k import Gsm8kSpec
from harness.workloads.recall import RecallSpec
from harness.workloads.ttft import TtftSpec
from kvcomm_core.models.model_config import ModelError, ModelMissingError
from sweeps.language.strict_yaml import SweepError
from sweeps.language.sweep_spec import SweepSpec
from sweeps.plan.cost import Cost
from sweeps.plan.planning import Finished, make_plan
from sweeps.run.recorder import recording

DENSE, REUSE = TrialSpec(), TrialSpec(method="kvcomm")
MODEL = "random:smollm2-135m"


@pytest.fixture(autouse=True)
def _no_gsm8k(monkeypatch):
    def not_at_hand(workload, seed):
        raise DataMissingError("put the file there")

    monkeypatch.setattr(Gsm8kSpec, "load", not_at_hand)


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
        Cost(5 * 2 * both, 0),
        Cost((5 * 4 + 1) * both, 0),
        Cost((5 * 4 + 1) * both, (5 * 3 + 1) * 2 * 3),
        Cost(0, 0),
    ]


def test_a_shape_that_is_not_known_is_refused(tmp_path):
    """Catches a micro-benchmark that fails on the replica, for want of a configuration to take the shape from."""
    (tmp_path / "some.gguf").write_text("")
    trial = TrialSpec(model=str(tmp_path / "some.gguf"), workload=BlendSpec(), method="kvcomm")
    with pytest.raises(ModelError, match="not a GGUF file"):
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


def test_cost_in_tokens(tmp_path):
    """Catches upstream answers left out of prompts, and times made up without a record of the model."""
    spec = TrialSpec(agents=3, max_new_tokens=50, workload=RecallSpec(limit=4), model=MODEL)
    sweep = SweepSpec(name="s", trials=(spec,))
    texts = sum(20 + (len(role.system) + len(role.user)) // 4 for role in roles_for("recall", 3))
    questions = sum(len(item.question) for item in spec.workload.load(0)) // 4
    prompt = 4 * texts + 3 * questions + 4 * (0 + 50 + 100)
    assert make_plan(sweep, tmp_path).costs == {spec.trial_id: Cost(prompt, 4 * 3 * 50)}


def test_trials_that_another_sweep_has_finished(tmp_path, make_result, monkeypatch):
    """Catches a shared trial that is run again, one taken from a sweep that was not named, and one that only failed
    there; then copies under the wrong name, or over an attempt of our own."""
    others = [dataclasses.replace(trial, model=MODEL) for trial in (DENSE, REUSE)]
    monkeypatch.setitem(sys.modules, "mlflow", None)
    writer = ResultsWriter(tmp_path, "table_1")
    writer.write(make_result(others[0], sweep="table_1", attempt=4))
    writer.write(make_result(others[1], sweep="table_1", status="error"))
    writer.close()
    own = ResultsWriter(tmp_path, "s")
    own.write(make_result(others[0], status="error"))
    own.close()
    assert make_plan(sweep_of(DENSE, REUSE), tmp_path).taken == {}
    sweep = sweep_of(DENSE, REUSE, take_from=("never_run", "table_1"))
    plan = make_plan(sweep, tmp_path)
    assert plan.taken == {others[0].trial_id: Finished(tmp_path / "table_1", 4)}
    assert plan.pending == (others[1],)
    assert plan.next_attempt == {others[0].trial_id: 2, others[1].trial_id: 1}

    console = Console(file=io.StringIO(), width=200)
    with recording(plan, tmp_path, console):
        pass
    assert "taken from table_1, not run again: 1 trial\n" in console.file.getvalue()
    again = make_plan(sweep, tmp_path)
    assert (again.done, again.taken, again.pending) == ((others[0],), {}, (others[1],))
    (row,) = [row for row in read_rows(tmp_path / "s") if row.status == "ok"]
    assert (row.sweep, row.attempt) == ("s", 2)
    copy, original = read_result(tmp_path / "s", row), make_result(others[0], sweep="s", attempt=2)
    assert (copy.turns, copy.samples) == (original.turns, original.samples)


def test_what_is_to_be_had_elsewhere_keeps_a_lenient_plan_from_nothing(tmp_path, monkeypatch):
    """Catches a plan for another machine that this one refuses, and a wrong name that passes for a missing one."""

    def out_of_reach(name):
        raise ModelMissingError(f"{name} is out of reach")

    monkeypatch.setattr("sweeps.plan.planning.check_model", out_of_reach)
    sweep = SweepSpec(name="s", trials=(TrialSpec(model="some/model"), TrialSpec(workload=Gsm8kSpec(), model=MODEL)))
    plan = make_plan(sweep, tmp_path, lenient=True)
    assert (plan.pending, plan.left_out) == ((), sweep.trials)
    assert plan.missing == {"some/model": "some/model is out of reach", "gsm8k": "put the file there"}
    with pytest.raises(ModelMissingError):
        make_plan(dataclasses.replace(sweep, trials=sweep.trials[:1]), tmp_path)
    named = TrialSpec(workload=Gsm8kSpec(path="mistyped.jsonl"), model=MODEL)
    with pytest.raises(SweepError, match="put the file there"):
        make_plan(SweepSpec(name="s", trials=(named,)), tmp_path, lenient=True)
