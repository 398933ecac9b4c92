"""The controller: who gets which trial, what becomes of failures, and a whole sweep on a real, small cluster."""

import io
import os
import sys
import time
from collections import Counter

import pytest
from rich.console import Console

from harness.spec import TrialSpec
from harness.store import read_attempts, read_trials
from sweeps.plan import make_plan
from sweeps.recorder import recording
from sweeps.spec import SweepSpec
from sweeps.sweep_file import SweepError

ray = pytest.importorskip("ray")

from harness.workloads import BlendSpec, TtftSpec  # noqa: E402
from sweeps.controller import Controller, _Job, _Slot, make_stages, place_replicas, run_on_ray  # noqa: E402

GOOD, OTHER, BAD = "random:smollm2-135m", "random:llama-3.1-8b", "random:qwen2.5-7b"


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


def test_choice_of_the_next_trial():
    """Catches arms of one comparison spread over replicas while others are free, and models loaded needlessly."""
    dense, reuse = TrialSpec(), TrialSpec(method="kvcomm")
    begun, fresh, foreign = TrialSpec(seed=1), TrialSpec(seed=2), TrialSpec(seed=3, model=OTHER)
    controller = object.__new__(Controller)
    controller._groups = {spec: spec.dense_counterpart().trial_id for spec in (dense, reuse, begun, fresh, foreign)}
    controller._owners = {dense.trial_id: 0, begun.trial_id: 1}
    warm, new = _Slot(0, None, model=("embedded", "auto")), _Slot(2, None)
    controller._slots = [warm, new]

    def chosen(slot, *specs):
        controller._pending = [_Job(spec, 1) for spec in specs]
        return controller._choose(slot).spec

    assert chosen(warm, begun, foreign, fresh, reuse) == reuse, "its own group comes first"
    assert chosen(warm, begun, foreign, fresh) == fresh, "then a group nobody has begun, with the model it has"
    assert chosen(warm, begun, foreign) == foreign, "then one with another model"
    assert chosen(warm, begun) == begun, "rather than idle, it helps another replica"
    assert chosen(new, begun, reuse, fresh, foreign) == foreign, "a new replica takes a model nobody has"


@pytest.fixture(scope="module")
def cluster():
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
        _node_ip_address="127.0.0.1",
    )
    yield
    ray.shutdown()


@pytest.mark.slow
def test_a_sweep_with_everything_that_goes_wrong(cluster, tmp_path, make_result, monkeypatch):
    """Catches a sweep that stops, loses a trial or lies about it when replicas die, models do not load and trials
    fail; a resume that runs too much; and a replica that loads its model more than once.
    """
    monkeypatch.setitem(sys.modules, "mlflow", None)
    loads, deaths = tmp_path / "loads", tmp_path / "deaths"
    loads.mkdir()
    deaths.mkdir()
    bad_model, good_model = BAD, GOOD

    def load(name, *, dtype):
        (loads / f"{os.getpid()}-{len(list(loads.iterdir()))}-{name}").touch()
        if name == bad_model:
            raise ValueError("too big")
        return name

    def run(spec, model, *, sweep, attempt, on_sample):
        on_sample(1, 2)
        if spec.seed == 2 or (spec.seed == 1 and not (deaths / "once").exists()):
            (deaths / "once").touch()
            os._exit(1)
        if spec.seed == 3:
            return make_result(spec, sweep=sweep, attempt=attempt, status="error")
        if spec.seed == 4:
            raise RuntimeError("a bug in run_trial")
        return make_result(spec, sweep=sweep, attempt=attempt)

    good = tuple(
        TrialSpec(model=good_model, seed=seed, method=method) for seed in (0, 1, 5) for method in ("dense", "kvcomm")
    )
    wrong = tuple(TrialSpec(model=good_model, seed=seed) for seed in (2, 3, 4))
    unloadable = (TrialSpec(model=bad_model), TrialSpec(model=bad_model, seed=1))
    everything = sweep(*wrong, *good, *unloadable, replicas=2)
    plan = make_plan(everything, tmp_path)
    console = Console(file=io.StringIO(), width=300)
    run_on_ray(plan, recording(plan, tmp_path, console), load=load, run=run)

    rows = read_trials(tmp_path / "s").to_pylist()
    by_trial = {spec.trial_id: [] for spec in everything.trials}
    for row in sorted(rows, key=lambda row: row["attempt"]):
        by_trial[row["trial_id"]].append(row)
    statuses = {trial_id: [row["status"] for row in attempts] for trial_id, attempts in by_trial.items()}
    assert statuses[wrong[0].trial_id] == ["killed", "killed", "killed"]
    assert statuses[wrong[1].trial_id] == ["error"]
    assert statuses[wrong[2].trial_id] == ["error"]
    assert "a bug in run_trial" in by_trial[wrong[2].trial_id][0]["error"]
    for spec in unloadable:
        (row,) = by_trial[spec.trial_id]
        assert (row["status"], row["error"]) == ("error", f"model {bad_model!r} cannot be loaded: too big")
    assert all(statuses[spec.trial_id][-1] == "ok" for spec in good)
    assert all(row["accuracy"] is None for row in rows if row["status"] != "ok")

    printed = console.file.getvalue()
    assert printed.count(" killed in ") == sum(row["status"] == "killed" for row in rows)
    assert "replica" in next(line for line in printed.splitlines() if "killed" in line)
    per_process = Counter(tuple(path.name.split("-", 2)[::2]) for path in loads.iterdir())
    assert max(count for (_, model), count in per_process.items() if model == good_model) <= 2, (
        "reloaded after BAD only"
    )

    def run_well(spec, model, *, sweep, attempt, on_sample):
        assert spec.seed != 5, "done already"
        return make_result(spec, sweep=sweep, attempt=attempt)

    resumed = make_plan(everything, tmp_path)
    assert set(resumed.pending) == {*wrong, *unloadable}
    assert resumed.next_attempt[wrong[0].trial_id] == 4
    run_on_ray(resumed, recording(resumed, tmp_path, console), load=lambda name, dtype: name, run=run_well)
    assert make_plan(everything, tmp_path).pending == ()
    assert read_attempts(tmp_path / "s")[wrong[0].trial_id].finished == 4


@pytest.mark.slow
def test_nothing_runs_beside_an_exclusive_trial(cluster, tmp_path, make_result, monkeypatch):
    """Catches a timing that starts while other replicas still work, and a record that does not say so."""
    monkeypatch.setitem(sys.modules, "mlflow", None)
    log = tmp_path / "log"

    def run(spec, model, *, sweep, attempt, on_sample):
        name = f"{spec.workload.name}-{spec.seed}"
        with log.open("a") as file:
            file.write(f"begin {name}\n")
        time.sleep(0.3)
        with log.open("a") as file:
            file.write(f"end {name}\n")
        return make_result(spec, sweep=sweep, attempt=attempt)

    timed = [TrialSpec(model=GOOD, workload=TtftSpec(), seed=seed) for seed in (0, 1)]
    graded = [TrialSpec(model=GOOD, seed=seed) for seed in (0, 1)]
    plan = make_plan(sweep(timed[0], *graded, timed[1], replicas=2), tmp_path)
    run_on_ray(plan, recording(plan, tmp_path, Console(file=io.StringIO())), load=lambda name, dtype: name, run=run)
    lines = log.read_text().splitlines()
    assert all("recall" in line for line in lines[:4])
    assert sorted(lines[4:]) == sorted(f"{what} ttft-{seed}" for what in ("begin", "end") for seed in (0, 1))
    assert lines[5] == lines[4].replace("begin", "end")
    rows = read_trials(tmp_path / "s").to_pylist()
    assert {(row["workload"], row["exclusive"]) for row in rows} == {("recall", False), ("ttft", True)}


@pytest.mark.slow
def test_a_sweep_that_does_not_fit_writes_nothing(cluster, tmp_path):
    """Catches folders left behind by a sweep that could not start."""
    plan = make_plan(sweep(TrialSpec(model=GOOD), replicas=64), tmp_path)
    with pytest.raises(SweepError, match="replicas is 64, each with 1 CPU and 0 GPU; allowed: 2 at most"):
        run_on_ray(plan, recording(plan, tmp_path, Console(file=io.StringIO())))
    assert list(tmp_path.iterdir()) == []
