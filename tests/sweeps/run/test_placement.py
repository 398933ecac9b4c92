"""Placement: what a replica takes, which clusters are refused, and which trials run alone."""

import pytest

from harness.spec import TrialSpec
from harness.workloads.blend import BlendSpec
from harness.workloads.ttft import TtftSpec
from sweeps.language.strict_yaml import SweepError
from sweeps.language.sweep_spec import SweepSpec
from sweeps.plan.planning import make_plan
from sweeps.run.placement import LabelledNode, make_stages, place_replicas, suitable

GOOD = "random:smollm2-135m"


def sweep(*trials, **settings):
    return SweepSpec(name="s", trials=trials, text="name: s\n", **settings)


def test_placement():
    """Catches replicas that wait for ever because no node can hold them, and shares that add up to too much."""
    two_cores, big = [{"CPU": 2.0}], [{"CPU": 16.0, "GPU": 2.0}, {"CPU": 16.0, "GPU": 2.0}]
    assert place_replicas(sweep(), two_cores) == (2, 0)
    assert place_replicas(sweep(replicas=2), two_cores) == (1, 0)
    assert place_replicas(sweep(replicas=4), big) == (8, 1.0)
    assert place_replicas(sweep(replicas=8), big) == (4, 0.5)
    assert place_replicas(sweep(replicas=2, gpus_per_replica=2.0, cpus_per_replica=3), big) == (3, 2.0)
    for bad, room in [
        (sweep(replicas=3), 2),
        (sweep(cpus_per_replica=3), 0),
        (sweep(gpus_per_replica=1.0), 0),
    ]:
        with pytest.raises(
            SweepError, match=rf"replicas is \d, each with .*; allowed: {room} at most, as there are 2 CPU"
        ):
            place_replicas(bad, two_cores)
    with pytest.raises(SweepError, match="allowed: 0 at most"):  # four GPUs there are, but not on one node
        place_replicas(sweep(gpus_per_replica=4.0), big)


def test_exclusive_trials_come_last_and_alone(tmp_path):
    """Catches a timing beside other replicas, on fewer cores than there are, or a sweep without any stage."""
    graded = tuple(TrialSpec(model=GOOD, seed=seed) for seed in (0, 1, 2))
    timed = tuple(TrialSpec(model=GOOD, workload=TtftSpec(), seed=seed) for seed in (0, 1))
    blend = TrialSpec(model=GOOD, workload=BlendSpec(), method="kvcomm")
    nodes = [{"CPU": 4.0}, {"CPU": 8.0}]

    def stages(*trials, nodes=nodes, **settings):
        found = make_stages(make_plan(sweep(*trials, **settings), tmp_path), nodes)
        return [(s.specs, s.replicas, s.cpus, s.gpus, s.threads, s.exclusive) for s in found]

    assert stages(timed[0], *graded, blend, timed[1], replicas=3) == [
        (graded, 3, 4, 0, 4, False),
        ((timed[0], blend, timed[1]), 1, 8, 0, 8, True),
    ]
    assert stages(*timed, replicas=2, cpus_per_replica=2) == [(timed, 1, 8, 0, 2, True)]
    assert stages(*timed, exclusive=False, replicas=3) == [(timed, 2, 4, 0, 4, False)]
    on_gpu = [{"CPU": 16.0, "GPU": 1.0}, {"CPU": 32.0}]
    assert stages(*timed, nodes=on_gpu[:1]) == [(timed, 1, 16, 1.0, 16, False)]
    settings = {"exclusive": True, "cpus_per_replica": 3, "gpus_per_replica": 1.0}
    assert stages(*timed, nodes=on_gpu, **settings) == [(timed, 1, 16, 1.0, 3, True)]
    assert stages(nodes=nodes[:1]) == [((), 0, 4, 0, 4, False)]
    with pytest.raises(SweepError, match=r"cpus_per_replica is 9 and gpus_per_replica 0, .* allowed: 8 CPU and 0 GPU"):
        stages(*timed, cpus_per_replica=9)
    with pytest.raises(SweepError, match=r"^no node of the cluster has a CPU for trials that have a machine"):
        stages(*timed, nodes=[{"CPU": 0.0}])


def test_a_cluster_that_grows_needs_room_for_one_replica():
    """Catches a sweep refused because a node of yesterday is gone, and one that waits for a node nobody can add."""
    nodes = [{"CPU": 4.0, "GPU": 1.0}, {"CPU": 4.0}]
    assert place_replicas(sweep(replicas=64), nodes, grows=True) == (1, 0.01)
    assert place_replicas(sweep(replicas=3, gpus_per_replica=1.0, cpus_per_replica=2), nodes, grows=True) == (2, 1.0)
    with pytest.raises(SweepError, match=r"8 CPU and 1 GPU on 2 node\(s\), at most 4 CPU and 1 GPU on one"):
        place_replicas(sweep(cpus_per_replica=5), nodes, grows=True)
    with pytest.raises(SweepError, match="allowed: 0 at most"):
        place_replicas(sweep(gpus_per_replica=2.0), nodes, grows=True)


def test_an_autoscaling_cluster_is_asked_for_more_than_it_has(tmp_path):
    """Catches a sweep refused by a cluster whose GPU nodes start when they are asked for."""
    settings = {"autoscaling": True, "gpus_per_replica": 4.0, "cpus_per_replica": 8, "replicas": 2}
    head = [{"CPU": 0.0}]
    assert place_replicas(sweep(**settings), head, grows=True) == (8, 4.0)
    timed = TrialSpec(model=GOOD, workload=TtftSpec())
    (stage,) = make_stages(make_plan(sweep(timed, exclusive=True, **settings), tmp_path), head, grows=True)
    assert (stage.cpus, stage.gpus, stage.threads, stage.exclusive) == (8, 4.0, 8, True)
    with pytest.raises(ValueError, match="gpus_per_replica is None; allowed: a number, with autoscaling"):
        sweep(autoscaling=True, cpus_per_replica=1)


def test_shares_fit_the_nodes():
    """Catches the CPUs of all nodes divided evenly into shares that no single node can give."""
    nodes = [{"CPU": 3.0}, {"CPU": 2.0}, {"CPU": 2.0}]
    assert place_replicas(sweep(replicas=2), nodes) == (2, 0)
    assert place_replicas(sweep(replicas=1), nodes) == (3, 0)
    assert place_replicas(sweep(replicas=7), nodes) == (1, 0)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_a_deadline_is_a_time(seconds):
    """Catches trials that all end before they begin, or never."""
    with pytest.raises(ValueError, match=r"deadline_s is .*; allowed: a number of seconds above 0"):
        sweep(deadline_s=seconds)


A100, H100, HEAD = (
    LabelledNode({"CPU": 8.0, "GPU": 2.0}, "A100"),
    LabelledNode({"CPU": 4.0, "GPU": 1.0}, "H100"),
    LabelledNode({"CPU": 64.0}),
)


def test_only_nodes_with_the_accelerator_count(tmp_path):
    """Catches replicas planned for nodes that they may not use, and a wait for a node that cannot come."""
    nodes = [HEAD, A100, H100]
    assert suitable(nodes, sweep()) == [node.resources for node in nodes]
    assert suitable(nodes, sweep(accelerator="H100")) == [H100.resources]
    with pytest.raises(SweepError, match=r"accelerator is 'H200'; allowed: A100, H100, as the nodes are labelled"):
        suitable(nodes, sweep(accelerator="H200"))
    with pytest.raises(SweepError, match=r"accelerator is 'H200'; allowed: none, as no node has such a label"):
        suitable([HEAD], sweep(accelerator="H200"))
    with pytest.raises(SweepError, match=r"replicas is 2, each with 1 CPU and 1 GPU; allowed: 1 at most"):
        place_replicas(sweep(replicas=2, accelerator="H100", gpus_per_replica=1.0), [H100.resources])


def test_an_accelerator_that_only_a_future_node_has(tmp_path):
    """Catches a sweep that an autoscaling cluster is never asked to make room for."""
    graded, timed = TrialSpec(model=GOOD), TrialSpec(model=GOOD, workload=TtftSpec())
    growing = {"autoscaling": True, "cpus_per_replica": 4, "gpus_per_replica": 1.0, "accelerator": "H200"}
    nodes = suitable([HEAD, A100], sweep(**growing))
    for trial in (graded, timed):
        plan = make_plan(sweep(trial, exclusive=trial is timed, **growing), tmp_path)
        (stage,) = make_stages(plan, nodes, grows=True)
        assert (stage.cpus, stage.gpus, stage.labels) == (4, 1.0, {"ray.io/accelerator-type": "H200"})
    (stage,) = make_stages(make_plan(sweep(graded), tmp_path), [HEAD.resources])
    assert stage.labels == {}


@pytest.mark.parametrize("name", ["", "H100 ", "!H100", "in(A,B)"])
def test_an_accelerator_is_one_label(name):
    """Catches an expression that Ray would take for a set of labels, and a label that no node can have."""
    with pytest.raises(ValueError, match=r"accelerator is .*; allowed: a type of GPU as Ray names it, such as H100"):
        sweep(accelerator=name)
