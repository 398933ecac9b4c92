"""Axes beside the grid, and the trials they give."""

import itertools
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sweep_files import sweep_of

from harness.spec import TrialSpec
from harness.workloads.gsm8k import Gsm8kSpec
from harness.workloads.recall import RecallSpec
from kvcomm_core.config import KVCommConfig, MethodConfig
from kvcomm_core.methods.baseline_config import CacheBlendConfig


@pytest.fixture
def trials(tmp_path):
    """``trials(text, ...)``: the trials of the sweep with that text."""
    return lambda text, *overrides, **others: list(sweep_of(tmp_path, f"name: x\n{text}", *overrides, **others).trials)


def test_zipped_fields_move_together(trials):
    """Catches a zip that is expanded like a grid."""
    assert trials("zip: {agents: [2, 3, 4], rounds: [3, 2, 1]}") == [
        TrialSpec(agents=agents, rounds=rounds) for agents, rounds in ((2, 3), (3, 2), (4, 1))
    ]


def test_listed_combinations_are_taken_as_they_are(trials):
    """Catches fields of one row reaching another, and a row without a field taking something else than its default."""
    text = "list: [{method: dense, agents: 2}, {method: cacheblend, cacheblend.ratio: 0.5}, {workload: gsm8k}]"
    assert trials(text) == [
        TrialSpec(agents=2),
        TrialSpec(method="cacheblend", parameters=CacheBlendConfig(ratio=0.5)),
        TrialSpec(workload=Gsm8kSpec()),
    ]


def test_repeats_count_up_from_the_seed(trials):
    """Catches repeats of one and the same seed, and a seed that is ignored."""
    assert [trial.seed for trial in trials("repeats: 3")] == [0, 1, 2]
    assert [trial.seed for trial in trials("repeats: 2\nseed: 7")] == [7, 8]
    assert [trial.seed for trial in trials("repeats: 1")] == [0]


def test_the_seed_varies_slowest(trials):
    """Catches all repeats of one cell in a row, so that a machine which slows down slows the later cells alone."""
    found = trials("grid: {agents: [2, 3]}\nrepeats: 2")
    assert [(trial.seed, trial.agents) for trial in found] == [(0, 2), (0, 3), (1, 2), (1, 3)]


def test_the_product_of_everything(trials):
    """Catches an axis that is left out of the product, or one that is zipped with another, against explicit loops."""
    text = """
max_new_tokens: 8
repeats: 2
list: [{topology: chain}, {topology: star}]
zip: {agents: [2, 3], batch_size: [1, 2]}
grid: {rounds: [1, 2], method: [dense, kvcomm], dtype: [float32, bfloat16]}
random: {samples: 3, seed: 5, fields: {workload.facts: {int: [2, 5]}, kvcomm.gamma: {uniform: [0, 1]}}}
"""
    found = trials(text)
    drawn = sorted({(trial.workload.facts, trial.parameters.gamma) for trial in found if trial.method == "kvcomm"})
    assert len(drawn) == 3
    expected = set()
    for topology, (agents, batch), dtype, rounds, method, (facts, gamma), seed in itertools.product(
        ("chain", "star"),
        ((2, 1), (3, 2)),
        ("float32", "bfloat16"),
        (1, 2),
        ("dense", "kvcomm"),
        drawn,
        (0, 1),
    ):
        trial = TrialSpec(
            max_new_tokens=8,
            topology=topology,
            agents=agents,
            batch_size=batch,
            dtype=dtype,
            rounds=rounds,
            method=method,
            parameters=KVCommConfig(gamma=gamma) if method == "kvcomm" else MethodConfig(),
            workload=RecallSpec(facts=facts),
            seed=seed,
        )
        expected.add(trial.trial_id)
    assert {trial.trial_id for trial in found} == expected
    assert len(found) == len(expected)


def test_random_fields_of_a_method_are_drawn_for_it_alone(trials):
    """Catches one dense trial for each sample of a parameter that dense does not have."""
    found = trials("grid: {method: [dense, kvcomm]}\nrandom: {samples: 5, fields: {kvcomm.gamma: {uniform: [0, 1]}}}")
    assert [trial.method for trial in found] == ["dense", *["kvcomm"] * 5]


@pytest.mark.slow
@settings(deadline=None)
@given(
    few=st.integers(1, 6),
    more=st.integers(1, 6),
    seed=st.integers(0, 2**63 - 1),
)
def test_more_samples_leave_the_first_as_they_are(tmp_path_factory, few, more, seed):
    """Catches a sweep that is thrown away by asking for more of it, or by drawing one more field."""
    folder = tmp_path_factory.mktemp("sweep")
    text = "name: x\nmethod: kvcomm\nrandom: {{samples: {}, seed: {}, fields: {{kvcomm.gamma: {{uniform: [0, 1]}}{}}}}}"
    first = sweep_of(folder, text.format(few, seed, ""))
    longer = sweep_of(folder, text.format(few + more, seed, ""))
    assert longer.trials[:few] == first.trials
    wider = sweep_of(folder, text.format(few, seed, ", kvcomm.max_anchors: {int: [5, 40]}"))
    assert [trial.parameters.gamma for trial in wider.trials] == [trial.parameters.gamma for trial in first.trials]


def test_seeds_of_random_differ(trials):
    """Catches a seed that is ignored."""
    text = "method: kvcomm\nrandom: {{samples: 4, seed: {}, fields: {{kvcomm.gamma: {{uniform: [0, 1]}}}}}}"
    zero, one, again = (trials(text.format(seed)) for seed in (0, 1, 0))
    assert zero == again
    assert not {*zero} & {*one}


WHOLE = """name: x
list: [{method: dense}, {method: cacheblend}, {method: kvcomm, topology: chain}]
zip: {agents: [2, 3], max_new_tokens: [16, 8]}
grid: {workload: [{name: recall, limit: 3}, {name: gsm8k, limit: 2}]}
random: {samples: 3, fields: {kvcomm.gamma: {uniform: [0, 1]}, cacheblend.ratio: {log_uniform: [0.01, 1]}}}
repeats: 2
exclude: [{agents: 2, workload: gsm8k}]
"""


def test_the_text_of_a_sweep_with_every_section_is_the_sweep(tmp_path):
    """Catches a sweep.yaml in the results from which other trials are read than were run."""
    sweep = sweep_of(tmp_path, WHOLE, "random.samples=4", "seed=3", limit=1)
    assert sweep_of(tmp_path, sweep.text) == sweep
    assert {trial.seed for trial in sweep.trials} == {3, 4}
    assert len([trial for trial in sweep.trials if trial.method == "kvcomm"]) == 4 * 2 * 3


def test_a_mapping_and_fields_beside_it_add_up(trials):
    """Catches a mapping that takes away the fields given before it."""
    expected = [TrialSpec(method="kvcomm", parameters=KVCommConfig(gamma=0.1, window=3))]
    assert trials("method: kvcomm\nkvcomm.gamma: 0.1\nkvcomm: {window: 3}") == expected
    assert trials("method: kvcomm\nkvcomm: {window: 3}\nkvcomm.gamma: 0.1") == expected
    assert trials("method: kvcomm\nkvcomm.gamma: 0.1\ngrid: {kvcomm: [{window: 3}]}") == expected


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("agents=5", {(5, 16), (5, 8)}),
        ("agents=[4, 5]", {(4, 16), (4, 8), (5, 16), (5, 8)}),
        ("max_new_tokens=1", {(2, 1), (3, 1)}),
        ("zip={agents: [6], max_new_tokens: [7]}", {(6, 7)}),
        ("zip={agents: [6], rounds: [1]}", {(6, 64)}),
        ("grid={agents: [9]}", {(9, 16), (9, 8)}),
        ("list=[{agents: 7}]", {(7, 16), (7, 8)}),
        ("random={samples: 1, fields: {agents: {choice: [9]}}}", {(9, 16), (9, 8)}),
    ],
)
def test_an_override_takes_a_field_out_of_where_it_stood(trials, override, expected):
    """Catches an override that stands beside what it should replace, or takes its neighbours along."""
    found = trials("zip: {agents: [2, 3], max_new_tokens: [16, 8]}", override)
    assert {(trial.agents, trial.max_new_tokens) for trial in found} == expected


@pytest.mark.parametrize(
    ("text", "override", "methods"),
    [
        ("list: [{method: dense}, {method: naive}]", "method=prefix", ["prefix"]),
        ("list: [{method: dense}, {method: naive, agents: 2}]", "method=prefix", ["prefix", "prefix"]),
        ("random: {samples: 9, fields: {method: {choice: [dense, naive]}}}", "method=prefix", ["prefix"]),
        ("zip: {method: [dense, naive]}", "method=prefix", ["prefix"]),
    ],
)
def test_a_section_that_an_override_empties_is_gone(trials, text, override, methods):
    """Catches `--set` ending in a complaint about an empty section that the file does not have."""
    assert [trial.method for trial in trials(text, override)] == methods


def test_limit_reaches_workloads_on_every_axis(trials):
    """Catches --limit losing against a limit inside a list, a zip or a choice of random."""
    for text in (
        "list: [{workload: {name: recall, limit: 9}}]",
        "zip: {workload: [{name: recall, limit: 9}], agents: [2]}",
        "random: {samples: 2, fields: {workload: {choice: [{name: recall, limit: 9}]}}}",
        "random: {samples: 2, fields: {workload.limit: {int: [5, 9]}}}",
    ):
        assert {trial.workload.limit for trial in trials(text, limit=2)} == {2}


def test_seeds_and_repeats_replace_each_other(trials):
    """Catches an override that ends in a complaint about the entry it is meant to replace."""
    assert [trial.seed for trial in trials("repeats: 3", "seed=[5, 9]")] == [5, 9]
    assert [trial.seed for trial in trials("repeats: 3", "seed=5")] == [5, 6, 7]
    assert [trial.seed for trial in trials("grid: {seed: [5, 9]}", "repeats=2")] == [0, 1]
    assert [trial.seed for trial in trials("seed: 4", "repeats=2")] == [4, 5]


def test_an_override_hides_no_mistake(tmp_path):
    """Catches `grid: {}` or an empty zip being swept away by an override of something else."""
    for text, message in (("grid: {}", "grid is {}"), ("zip: {}", "zip is {}"), ("list: []", "list is []")):
        with pytest.raises(ValueError, match=re.escape(message)):
            sweep_of(tmp_path, f"name: x\n{text}", "agents=[2, 3]")


def test_the_axes_in_words(tmp_path):
    """Catches a plan that says something else than what is run."""
    assert sweep_of(tmp_path, WHOLE).axes == (
        "list     {method: dense}, {method: cacheblend}, {method: kvcomm, topology: chain}",
        "zip      {agents: 2, max_new_tokens: 16}, {agents: 3, max_new_tokens: 8}",
        "grid     workload: {name: recall, limit: 3}, {name: gsm8k, limit: 2}",
        "random   3 samples, seed 0: kvcomm.gamma {uniform: [0, 1]}, cacheblend.ratio {log_uniform: [0.01, 1]}",
        "repeats  seed: 0, 1",
        "exclude  1 rule(s) drop 18 of 72 combinations",
        "trials   42 different ones in 54 combinations",
    )
    assert sweep_of(tmp_path, "name: x").axes == ()
    many = sweep_of(tmp_path, f"name: x\ngrid: {{seed: {json.dumps(list(range(20)))}}}")
    assert many.axes[0] == "grid     seed: 0, 1, 2, 3, 4, 5, 6, 7, ... (20 values)"
