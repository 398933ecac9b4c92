"""Items needed, from made-up pilot trials, beside the formula written out."""

import dataclasses
import json
import math
from statistics import NormalDist, variance

import pytest
from made_up import with_fidelity, with_outcomes, write_results

from harness.spec import TrialSpec
from harness.workloads.recall import RecallSpec
from kvcomm_core.config import KVCommConfig
from sweeps.plan.items_needed import needed_items

DENSE = TrialSpec(agents=2, workload=RecallSpec(limit=40))
MEAN = TrialSpec(agents=2, method="kvcomm", workload=RecallSpec(limit=40), parameters=KVCommConfig(estimator="mean"))
L2 = TrialSpec(agents=2, method="kvcomm", workload=RecallSpec(limit=40))


def planned(limit):
    workload = RecallSpec(limit=limit)
    return [
        TrialSpec(agents=2, workload=workload, seed=3),
        TrialSpec(
            agents=2, method="kvcomm", workload=workload, parameters=KVCommConfig(estimator="mean"), fidelity=0.5
        ),
        TrialSpec(agents=2, method="kvcomm", workload=workload),
        TrialSpec(agents=2, method="kvcomm", workload=workload, parameters=KVCommConfig(gamma=0.9)),
    ]


def test_pilots_tell_the_items(tmp_path, make_result):
    """Catches a pilot with other parameters, the difference in place of the discordance, points taken for shares, and
    the KL of one arm in place of the difference of two."""
    away = lambda turn: 0.01 * (turn.sample_index % 5)  # noqa: E731
    farther = lambda turn: 0.01 * (turn.sample_index % 5) + 0.02 * (turn.sample_index % 3)  # noqa: E731
    write_results(
        tmp_path,
        with_outcomes(make_result(DENSE, samples=40), "+" * 36 + "-" * 4),
        with_fidelity(with_outcomes(make_result(MEAN, samples=40), "+" * 34 + "-" * 4 + "+" * 2), away),
        with_fidelity(with_outcomes(make_result(L2, samples=40), "+" * 36 + "-" * 4), farther),
    )
    mean, l2, wide = needed_items(planned(500), tmp_path, margin=2, kl_margin=0.005, power=0.9)
    factor = (NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.9)) ** 2
    assert (mean.pilot_items, mean.discordance) == (40, 0.1)
    assert mean.items == math.ceil(factor * 0.1 / 0.02**2)
    assert mean.items_low < mean.items < mean.items_high
    assert (l2.discordance, mean.kl_beside, l2.kl_beside) == (0.0, None, "kvcomm estimator=mean gamma=0.3")
    assert l2.items > 100, "no disagreement in 40 items does not mean none"
    differences = [0.02 * (sample % 3) for sample in range(1, 40)]
    assert l2.kl_pilot_items == 39
    assert l2.kl_variance == pytest.approx(variance(differences))
    assert l2.kl_items == math.ceil(factor * variance(differences) / 0.005**2)
    assert (wide.pilot_items, wide.discordance, wide.items, wide.kl_items) == (0, None, None, None)


def test_pilots_of_an_earlier_version_count(tmp_path, make_result):
    """Catches pilots that are left out since their version did not know a field, whose default they had."""
    dense, mean = (with_outcomes(make_result(spec, samples=40), "+" * 40) for spec in (DENSE, MEAN))
    older = json.loads(mean.trial.spec_json)
    del older["kvcomm"]["fallback"]
    trial = dataclasses.replace(mean.trial, spec_json=json.dumps(older))
    write_results(tmp_path, dense, dataclasses.replace(mean, trial=trial))
    assert needed_items(planned(500), tmp_path, margin=2, kl_margin=None, power=0.9)[0].pilot_items == 40


def test_no_results_are_no_pilot(tmp_path):
    """Catches a failure where nothing has run yet, and a 0 for what is unknown."""
    rows = needed_items(planned(5), tmp_path / "none", margin=2, kl_margin=None, power=0.8)
    assert [(row.items, row.kl_items, row.pilot_items) for row in rows] == [(None, None, 0)] * 3
