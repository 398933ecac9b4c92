"""Rules that drop combinations."""

import pytest
from sweep_files import sweep_of

from harness.spec import TrialSpec
from harness.workloads.gsm8k import Gsm8kSpec
from harness.workloads.recall import RecallSpec
from sweeps.language.strict_yaml import SweepError

GRID = """name: x
grid:
  workload: [{name: recall, limit: 3}, {name: gsm8k, limit: 3}]
  agents: [2, 3]
  method: [dense, kvcomm]
  kvcomm.gamma: [0.1, 0.3]
"""


@pytest.mark.parametrize(
    ("rule", "dropped"),
    [
        ("{agents: 3}", lambda t: t.agents == 3),
        ("{agents: 3, method: kvcomm}", lambda t: t.agents == 3 and t.method == "kvcomm"),
        ("{kvcomm.gamma: 0.1}", lambda t: t.method == "kvcomm" and t.parameters.gamma == 0.1),
        (
            "{kvcomm: {gamma: 0.1}, agents: 2}",
            lambda t: t.method == "kvcomm" and t.parameters.gamma == 0.1 and t.agents == 2,
        ),
        ("{workload: gsm8k}", lambda t: isinstance(t.workload, Gsm8kSpec)),
        (
            "{workload: {name: recall}, method: dense}",
            lambda t: isinstance(t.workload, RecallSpec) and t.method == "dense",
        ),
        ("{workload.facts: 3}", lambda t: isinstance(t.workload, RecallSpec)),
        ("{rounds: 1, agents: 2.0}", lambda t: t.agents == 2),
    ],
)
def test_a_rule_drops_what_agrees_with_all_of_it(tmp_path, rule, dropped):
    """Catches a rule that drops what agrees with a part of it, misses a default, or reaches dense by a parameter that
    dense does not have.
    """
    every, left = sweep_of(tmp_path, GRID).trials, sweep_of(tmp_path, f"{GRID}exclude: [{rule}]").trials
    assert left == tuple(trial for trial in every if not dropped(trial))
    assert 0 < len(left) < len(every)


def test_what_records_refuse_can_be_dropped(tmp_path):
    """Catches a combination that is checked before the rules are applied."""
    text = "name: x\nmethod: kvcomm\ngrid: {kvcomm.storage: [model, int8], kvcomm.estimator: [l2_norm, mean]}\n"
    with pytest.raises(
        SweepError, match=r"in the combination kvcomm.storage: 'int8', kvcomm.estimator: 'mean'; exclude"
    ):
        sweep_of(tmp_path, text)
    trials = sweep_of(tmp_path, f"{text}exclude: [{{kvcomm.storage: int8, kvcomm.estimator: mean}}]").trials
    assert [(trial.parameters.storage, trial.parameters.estimator) for trial in trials] == [
        ("model", "l2_norm"),
        ("model", "mean"),
        ("int8", "l2_norm"),
    ]


def test_rules_that_overlap_are_each_useful(tmp_path):
    """Catches a rule being called idle because another one dropped the same combinations first."""
    trials = sweep_of(tmp_path, "name: x\ngrid: {agents: [2, 3]}\nexclude: [{agents: 3}, {method: dense, agents: 3}]")
    assert trials.trials == (TrialSpec(agents=2),)


def test_true_is_not_one(tmp_path):
    """Catches Python's True == 1 dropping a combination that the rule does not speak of."""
    with pytest.raises(SweepError, match="matches no combination"):
        sweep_of(tmp_path, "name: x\ngrid: {rounds: [1, 2]}\nexclude: [{rounds: true}]")


def test_rules_about_replaced_fields_may_match_nothing(tmp_path):
    """Catches `--set agents=2` ending in a complaint about a rule of the file, and a sweep.yaml in the results that
    does not load because of it.
    """
    text = f"{GRID}exclude: [{{agents: 3, method: kvcomm}}, {{workload: gsm8k, agents: 2}}]\n"
    for override in ("agents=2", "method=dense", "workload=recall"):
        sweep = sweep_of(tmp_path, text, override)
        assert sweep_of(tmp_path, sweep.text) == sweep
    with pytest.raises(SweepError, match=r"exclude\[0\] is {'agents': 3, 'method': 'kvcomm'}, which matches no"):
        sweep_of(tmp_path, text.replace("[2, 3]", "[2, 4]"), "seed=1")


def test_the_command_line_can_drop_the_rules(tmp_path):
    """Catches `--set exclude=[]` being taken for an axis."""
    assert len(sweep_of(tmp_path, f"{GRID}exclude: [{{agents: 3}}]", "exclude=[]").trials) == 12
    assert len(sweep_of(tmp_path, GRID, "exclude=[{agents: 2}]").trials) == 6
