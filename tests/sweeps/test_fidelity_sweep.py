"""sweeps/fidelity.yaml: the comparison of every method with dense that one command prints."""

import re
from pathlib import Path
from typing import get_args

import sweeps
from harness.methods import BUILT_IN
from harness.workloads.gsm8k import Gsm8kSpec
from kvcomm_core.config import Estimator
from kvcomm_core.fidelity import CONTINUATION_TOKENS
from sweeps.language.sweep_spec import load_sweep

FILE = Path(sweeps.__file__).parent / "fidelity.yaml"


def test_every_method_and_estimator_is_compared_on_sixteen_warm_items():
    """Catches a method, an estimator or a ratio left out, arms that do not share their items, answers too short for the
    comparison over 32 tokens, and a warm-up that leaves fewer items than the file says."""
    trials = load_sweep(FILE).trials
    arms = [
        (trial.method, getattr(trial.parameters, "ratio", None), getattr(trial.parameters, "estimator", None))
        for trial in trials
    ]
    assert {method for method, _, _ in arms} == set(BUILT_IN)
    assert [ratio for method, ratio, _ in arms if method == "cacheblend"] == [0.0, 0.1, 0.2]
    assert {estimator for method, _, estimator in arms if method == "kvcomm"} == set(get_args(Estimator))
    assert len(set(arms)) == len(trials)
    assert {trial.parameters.gamma for trial in trials if trial.method == "kvcomm"} == {1.0}
    assert {trial.fidelity for trial in trials if trial.method != "dense"} == {1.0}
    (workload,) = {trial.workload for trial in trials}
    assert isinstance(workload, Gsm8kSpec)
    [first] = re.findall(r"kvcomm show results/fidelity --from-sample (\d+)", FILE.read_text(encoding="utf-8"))
    assert workload.limit - int(first) >= 16
    assert {trial.agents for trial in trials} == {3}
    assert min(trial.max_new_tokens for trial in trials) >= CONTINUATION_TOKENS
