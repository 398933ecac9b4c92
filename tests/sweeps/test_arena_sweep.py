"""sweeps/arena.yaml and sweeps/calibration.yaml: the methods side by side, and the promise of ``calibrated``."""

import re
from pathlib import Path

import sweeps
from harness.methods import BUILT_IN
from kvcomm_core.config import KVCommConfig
from sweeps.language.sweep_spec import load_sweep

FOLDER = Path(sweeps.__file__).parent


def test_every_method_meets_every_other_on_two_hundred_warm_items():
    """Catches a method left out, arms that differ in more than the method, and a warm-up that leaves fewer items."""
    file = FOLDER / "arena.yaml"
    trials = load_sweep(file).trials
    assert {trial.method for trial in trials} == set(BUILT_IN)
    assert len({(trial.workload, trial.agents, trial.seed, trial.batch_size) for trial in trials}) == 1
    assert len({trial.trial_id for trial in trials}) == len(trials)
    [first] = re.findall(r"--arena --from-sample (\d+)", file.read_text(encoding="utf-8"))
    assert trials[0].workload.limit - int(first) >= 200
    assert {trial.fidelity for trial in trials if trial.method != "dense"} == {1.0}  # the KL is over all turns
    criteria = {trial.parameters.criterion for trial in trials if isinstance(trial.parameters, KVCommConfig)}
    assert {"always", "entropy_fitted", "calibrated", "gated", "oracle"} == criteria


def test_arms_that_learn_from_a_number_of_samples_have_them_in_the_first_batch():
    """Catches an arm whose pools are still cold when the items that are compared begin."""
    for trial in load_sweep(FOLDER / "arena.yaml").trials:
        parameters = trial.parameters
        if isinstance(parameters, KVCommConfig) and parameters.criterion in ("always", "gated", "oracle"):
            assert parameters.min_anchors == trial.batch_size == 8


def test_the_promise_is_tried_on_ten_orders_of_the_items():
    """Catches trials of one order, which would be one trial, and a reused turn that nobody checks."""
    trials = load_sweep(FOLDER / "calibration.yaml").trials
    promises = {trial.parameters.max_kl for trial in trials if isinstance(trial.parameters, KVCommConfig)}
    assert len({trial.seed for trial in trials}) == 10
    assert len(trials) == 10 * len(promises) == 20
    for trial in trials:
        assert isinstance(trial.parameters, KVCommConfig)
        assert (trial.parameters.criterion, trial.fidelity, trial.workload.order) == ("calibrated", 1.0, "random")
