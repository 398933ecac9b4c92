"""Sweeps of probes of keys and values: the paper's, what may stand in one, what it costs and who speaks in it."""

from dataclasses import replace
from pathlib import Path

import pytest
from sweep_files import sweep_of

import sweeps
from analysis.paper.printed_numbers import load_paper
from harness.spec import TrialSpec
from harness.tools.sandbox.jail.layers import UnsafeSandboxError
from harness.workloads.gsm8k import Gsm8kSpec
from harness.workloads.probes import ContextsSpec, OffsetsSpec, ProximitySpec
from sweeps.language.strict_yaml import SweepError
from sweeps.language.sweep_spec import SweepSpec, load_sweep
from sweeps.plan import planning as plan_module
from sweeps.plan.planning import check_sandbox, make_plan
from sweeps.plan.topology_view import draw_topologies

PAPER = Path(sweeps.__file__).parent / "paper"
FIGURES = ("figure_1", "figure_4", "figure_a1", "figure_a3", "figure_a4_a11", "figure_a12")


def test_every_figure_of_the_paper_has_a_sweep():
    """Catches a figure without one, one under another name, and a profile that does not load."""
    numbers = [number.lower().replace(".", "").replace(" to ", "_") for number in load_paper().figures]
    assert tuple(f"figure_{number}" for number in numbers) == FIGURES
    assert {path.stem for path in PAPER.glob("figure_*.yaml")} == set(FIGURES)
    llama = load_paper().setup.models["llama"]
    for name in FIGURES:
        for profile, model in (("paper", llama), ("embedded", "embedded")):
            sweep = load_sweep(PAPER / f"{name}.yaml", profile=profile)
            assert sweep.name == name
            assert {trial.model for trial in sweep.trials} == {model}
            assert {trial.workload.name for trial in sweep.trials} & {
                "contexts",
                "proximity",
                "offsets",
                "recall",
                "ttft",
                "mmlu",
                "gsm8k",
            }


def test_the_papers_sizes():
    """Catches a sample count, a grid or a criterion that drifts from the paper's."""
    trials = {name: load_sweep(PAPER / f"{name}.yaml", profile="paper").trials for name in FIGURES}
    (contexts,), (proximity,), (offsets,) = (trials[name] for name in ("figure_1", "figure_4", "figure_a4_a11"))
    assert contexts.workload.limit == 10
    assert (proximity.workload.pairs, proximity.workload.tokens) == (300, 4000)
    assert (offsets.workload.questions, offsets.workload.limit, offsets.agents) == ("mmlu", 10, 4)
    assert len(trials["figure_a1"]) == 4 * 5 * 4
    assert {(t.agents, t.workload.input_tokens) for t in trials["figure_a1"]} == {(3, 1024)}
    (usage,) = trials["figure_a3"]
    assert (usage.workload.name, usage.agents, usage.parameters.gamma) == ("gsm8k", 4, 0.3)
    estimators = {trial.parameters.estimator for trial in trials["figure_a12"] if trial.method == "kvcomm"}
    assert {"l2_norm", "cosine", "nearest"} <= estimators
    assert {trial.fidelity for trial in trials["figure_a12"]} == {1.0}


@pytest.mark.parametrize(
    ("workload", "field"),
    [("contexts", "max_new_tokens"), ("proximity", "batch_size"), ("offsets", "batch_size"), ("offsets", "shards")],
)
def test_what_a_probe_has_no_use_for(workload, field, tmp_path):
    """Catches a setting that changes nothing but the identity of the trial."""
    with pytest.raises(SweepError, match=f"{field} is given with workload {workload} alone, which has no use for it"):
        sweep_of(tmp_path, f"name: s\nworkload: {{name: {workload}}}\n{field}: 2\n")
    text = f"name: s\ngrid: {{workload: [{{name: {workload}}}, {{name: recall}}]}}\n{field}: 2\n"
    probe, recall = sweep_of(tmp_path, text).trials
    assert (getattr(probe, field), getattr(recall, field)) == (getattr(TrialSpec(), field), 2)


def test_answers_are_as_long_as_asked_for(tmp_path):
    """Catches the one probe that decodes being denied the length of its answers."""
    (trial,) = sweep_of(tmp_path, "name: s\nworkload: {name: offsets}\nmax_new_tokens: 9\n", limit=3).trials
    assert (trial.max_new_tokens, trial.workload.limit) == (9, 3)


def plan_of(tmp_path, *trials):
    return make_plan(
        SweepSpec(name="s", trials=tuple(replace(t, model="random:smollm2-135m") for t in trials)), tmp_path
    )


def test_costs(tmp_path):
    """Catches a probe that is free, or answers that nobody decodes; a conversation costs what it does elsewhere."""
    talk = TrialSpec(workload=OffsetsSpec(limit=5), agents=4, max_new_tokens=7)
    same = replace(talk, workload=OffsetsSpec(limit=5).question_spec)
    trials = (TrialSpec(workload=ContextsSpec()), TrialSpec(workload=ProximitySpec()), talk, same)
    contexts, proximity, offsets, conversation = plan_of(tmp_path, *trials).costs.values()
    assert (contexts.output_tokens, proximity.output_tokens) == (0, 0)
    assert contexts.prompt_tokens > 10 * 2 * 10
    assert proximity.prompt_tokens > 2 * 4 * 300
    assert offsets == conversation


def test_who_speaks():
    """Catches roles of a workload that has none, and a drawing of agents that take no turns."""
    trials = (TrialSpec(workload=spec()) for spec in (ContextsSpec, ProximitySpec, OffsetsSpec))
    (drawing,) = draw_topologies(SweepSpec(name="s", trials=tuple(trials)))
    assert (drawing.workload, [agent.role for agent in drawing.agents]) == (
        "offsets", ["Reader", "Fact Keeper", "FinalRefer"],
    )  # fmt: skip


def test_code_of_a_probe_is_confined(tmp_path, monkeypatch):
    """Catches code of gsm8k's Programming Expert that runs unconfined because a probe asked for it."""

    def refuse(allowed):
        raise UnsafeSandboxError("nothing confines it")

    monkeypatch.setattr(plan_module, "require_safe", refuse)
    check_sandbox(plan_of(tmp_path, *(TrialSpec(workload=spec()) for spec in (ContextsSpec, OffsetsSpec))))
    monkeypatch.setattr(Gsm8kSpec, "load", lambda workload, seed: [])
    monkeypatch.setattr(plan_module, "cost_of", lambda *_, **__: plan_module.Cost(0, 0))
    monkeypatch.setattr(plan_module, "forecast", lambda *_, **__: None)
    contexts, offsets = (TrialSpec(workload=spec(questions="gsm8k"), agents=4) for spec in (ContextsSpec, OffsetsSpec))
    check_sandbox(plan_of(tmp_path, contexts))
    with pytest.raises(SweepError, match="nothing confines it"):
        check_sandbox(plan_of(tmp_path, offsets))


def test_probes_share_a_machine():
    """Catches probes that wait for a machine of their own, as if they timed something."""
    sweep = SweepSpec(name="s")
    assert not any(sweep.is_exclusive(TrialSpec(workload=spec()), on_gpu=False) for spec in (ContextsSpec, OffsetsSpec))
