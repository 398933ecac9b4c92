"""Runs that change after they were written: numbers that need another trial, and names."""

import pytest
from made_up import write_results

from harness.spec import TrialSpec
from kvcomm_core.config import KVCommConfig
from sweeps.tracking.mlflow_writer import open_runs

pytest.importorskip("mlflow")
pytestmark = pytest.mark.slow

DENSE, KVCOMM = TrialSpec(agents=2), TrialSpec(agents=2, method="kvcomm")
OTHER = TrialSpec(agents=2, method="kvcomm", parameters=KVCommConfig(gamma=0.1))


def test_a_run_learns_of_a_trial_that_ends_later(tmp_path, make_result, mlflow_db):
    """Catches a speedup that is never written, one that is 0 before it is known, a name that stays as it was before
    another trial made it ambiguous, and more attempts in one call than were asked for."""
    write_results(tmp_path, make_result(KVCOMM, samples=6))
    runs = open_runs(f"sqlite:///{mlflow_db}", tmp_path / "s")

    def shown():
        found = runs._search({"kvcomm.kind": "trial"})
        return {run.info.run_name: (run.info.status, run.data.metrics.get("speedup")) for run in found}

    runs.log(KVCOMM.trial_id, 1)
    assert shown() == {}
    assert runs.flush(20) == 0
    assert shown() == {"kvcomm": ("FINISHED", None)}
    write_results(tmp_path, make_result(DENSE, samples=6), make_result(OTHER, samples=6))
    runs.log(OTHER.trial_id, 1)
    runs.log(DENSE.trial_id, 1)
    assert runs.flush(1) == 1
    assert shown()["kvcomm"] == ("FINISHED", None)
    assert runs.flush(1) == 0
    runs.close("FINISHED")
    finished = {name: ("FINISHED", speedup) for name, speedup in (("gamma=0.1", 2.0), ("gamma=0.3", 2.0))}
    assert shown() == {"dense": ("FINISHED", None), **{f"kvcomm {name}": run for name, run in finished.items()}}


def test_an_interruption_leaves_work_for_a_sync(tmp_path, make_result, mlflow_db, monkeypatch):
    """Catches a dense run that is complete although the runs compared with it have no speedup yet."""
    write_results(tmp_path, make_result(KVCOMM, samples=6))
    runs = open_runs(f"sqlite:///{mlflow_db}", tmp_path / "s")
    runs.log(KVCOMM.trial_id, 1)
    runs.flush(20)
    write_results(tmp_path, make_result(DENSE, samples=6))
    runs.log(DENSE.trial_id, 1)
    log_batch, kvcomm_run = runs._client.log_batch, runs._known[KVCOMM.trial_id].run_id

    def interrupted(run_id, **contents):
        if run_id == kvcomm_run:
            raise KeyboardInterrupt
        return log_batch(run_id, **contents)

    monkeypatch.setattr(runs._client, "log_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runs.flush(20)
    assert open_runs(f"sqlite:///{mlflow_db}", tmp_path / "s").shown() == {KVCOMM.trial_id: "1"}
