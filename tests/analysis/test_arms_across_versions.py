"""Arms of one folder whose records come from versions with and without a field."""

import dataclasses
import json

from analysis.results import Results
from analysis.tables.sweep_table import cell_rows
from harness.spec import TrialSpec
from kvcomm_core.config import KVCommConfig


def test_an_earlier_dense_trial_is_compared_with_a_later_one(write, make_result):
    """Catches a new field without a value that keeps the arms of one sweep apart."""
    dense = make_result(TrialSpec(agents=2))
    earlier = {key: value for key, value in json.loads(dense.trial.spec_json).items() if key != "team"}
    dense = dataclasses.replace(dense, trial=dataclasses.replace(dense.trial, spec_json=json.dumps(earlier)))
    ours = make_result(TrialSpec(agents=2, method="kvcomm", parameters=KVCommConfig()))
    of_dense, row = cell_rows(Results(write(dense, ours)))
    assert (of_dense.method, row.method) == ("dense", "kvcomm")
    assert row.n_pairs > 0
    assert row.ttft_sum_speedup is not None
