"""Names of runs: what differs in the sweep, and nothing else."""

from harness.cells import flatten
from harness.spec import TrialSpec
from harness.workloads.recall import RecallSpec
from kvcomm_core.config import KVCommConfig
from sweeps.tracking.run_names import name_runs


def names(*specs):
    return [*name_runs({str(index): flatten(spec.to_dict()) for index, spec in enumerate(specs)}).values()]


def kvcomm(gamma, **fields):
    return TrialSpec(method="kvcomm", parameters=KVCommConfig(gamma=gamma), **fields)


def test_constants_are_left_out():
    """Catches a name that repeats what all runs share, or leaves out what tells two apart."""
    assert names(TrialSpec(agents=2), kvcomm(0.1, agents=2), kvcomm(0.3, agents=2)) == [
        "dense",
        "kvcomm gamma=0.1",
        "kvcomm gamma=0.3",
    ]
    assert names(TrialSpec(agents=3), kvcomm(0.3, agents=1, topology="single")) == [
        "3 agents dense topology=fully_connected",
        "1 agent kvcomm topology=single",
    ]
    assert names(kvcomm(0.3)) == ["kvcomm"]


def test_workloads_and_seeds():
    """Catches runs of the same cell with the same name, and a workload without what differs in it."""
    short, long = (TrialSpec(workload=RecallSpec(limit=limit), agents=2) for limit in (2, 4))
    assert names(short, long) == ["recall limit=2 dense", "recall limit=4 dense"]
    assert names(TrialSpec(seed=0), TrialSpec(seed=1)) == ["dense seed=0", "dense seed=1"]
