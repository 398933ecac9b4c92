"""The controller: who gets which trial, what becomes of failures, and a whole sweep on a real, small cluster."""

import dataclasses
import io
import os
import re
import sys
import time
import urllib.request
from collections import Counter
from contextlib import contextmanager
from functools import partial

import pytest
from rich.console import Console

from harness.results.sweep_folder import read_attempts, read_trials
from harness.results.trial_result import TrialResult
from harness.spec import TrialSpec
from sweeps.language.strict_yaml import SweepError
from sweeps.language.sweep_spec import SweepSpec
from sweeps.plan.planning import make_plan
from sweeps.run.recorder import recording
from sweeps.status.progress import Progress

ray = pytest.importorskip("ray")

from harness.workloads.ttft import TtftSpec  # noqa: E402
from sweeps.run.controller import run_on_ray  # noqa: E402
from sweeps.run.own_cluster import own_cluster  # noqa: E402
from sweeps.run.ray_connection import Connection  # noqa: E402
from sweeps.status.ray_metrics import RayMetrics  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.ray]

GOOD, BAD = "random:smollm2-135m", "random:qwen2.5-7b"


def sweep(*trials, **settings):
    return SweepSpec(name="s", trials=trials, text="name: s\n", **settings)


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_metrics_report_interval_ms", "500")  # it is 10 s otherwise
        with own_cluster(2):
            yield


def test_a_sweep_with_everything_that_goes_wrong(cluster, tmp_path, make_result, monkeypatch):
    """Catches a sweep that stops, loses a trial or lies about it when replicas die, models do not load and trials
    fail; a resume that runs too much; and a replica that loads its model more than once.
    """
    monkeypatch.setitem(sys.modules, "mlflow", None)
    loads, deaths = tmp_path / "loads", tmp_path / "deaths"
    loads.mkdir()
    deaths.mkdir()
    bad_model, good_model = BAD, GOOD

    def load(name, *, dtype, weights):
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
    run_on_ray(resumed, recording(resumed, tmp_path, console), load=lambda name, dtype, weights: name, run=run_well)
    assert make_plan(everything, tmp_path).pending == ()
    assert read_attempts(tmp_path / "s")[wrong[0].trial_id].finished == 4


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
    run_on_ray(
        plan, recording(plan, tmp_path, Console(file=io.StringIO())), load=lambda name, dtype, weights: name, run=run
    )
    lines = log.read_text().splitlines()
    assert all("recall" in line for line in lines[:4])
    assert sorted(lines[4:]) == sorted(f"{what} ttft-{seed}" for what in ("begin", "end") for seed in (0, 1))
    assert lines[5] == lines[4].replace("begin", "end")
    rows = read_trials(tmp_path / "s").to_pylist()
    assert {(row["workload"], row["exclusive"]) for row in rows} == {("recall", False), ("ttft", True)}


def test_a_sweep_that_can_never_fit_writes_nothing(cluster, tmp_path):
    """Catches folders left behind by a sweep that could not start."""
    plan = make_plan(sweep(TrialSpec(model=GOOD), gpus_per_replica=1.0), tmp_path)
    with pytest.raises(SweepError, match="replicas is 1, each with 1 CPU and 1 GPU; allowed: 0 at most"):
        run_on_ray(plan, recording(plan, tmp_path, Console(file=io.StringIO())))
    assert list(tmp_path.iterdir()) == []


def test_memory_and_deadlines(cluster, tmp_path, make_result, monkeypatch):
    """Catches a sweep that ends with an exception of Ray it did not expect, a trial that hangs for ever, either of
    them tried again, and a replica that stays with what it cannot finish."""
    monkeypatch.setitem(sys.modules, "mlflow", None)

    def run(spec, model, *, sweep, attempt, on_sample):
        if spec.seed == 0:
            time.sleep(1000)
        error = "RuntimeError: CUDA error: an illegal memory access was encountered"
        result = make_result(spec, sweep=sweep, attempt=attempt, status="error" if spec.seed == 2 else "ok")
        process = dataclasses.replace(result.trial, host=str(os.getpid()), error=error if spec.seed == 2 else None)
        return dataclasses.replace(result, trial=process)

    get = ray.get

    def get_or_lose(ref):
        """As when Ray has ended the process of the trial of seed 1 before the kernel would have."""
        found = get(ref)
        if isinstance(found, TrialResult) and found.trial.seed == 1:
            raise ray.exceptions.OutOfMemoryError("made up")
        return found

    monkeypatch.setattr("sweeps.run.controller.ray.get", get_or_lose)
    trials = [TrialSpec(model=GOOD, seed=seed) for seed in range(5)]
    plan = make_plan(sweep(*trials, deadline_s=2.0), tmp_path)
    console = Console(file=io.StringIO(), width=300)
    run_on_ray(plan, recording(plan, tmp_path, console), load=lambda name, dtype, weights: name, run=run)
    rows = sorted(read_trials(tmp_path / "s").to_pylist(), key=lambda row: row["seed"])
    assert [(row["status"], row["attempt"]) for row in rows] == [
        ("timeout", 1),
        ("oom", 1),
        ("error", 1),
        ("ok", 1),
        ("ok", 1),
    ]
    assert rows[0]["error"] == "not done after 2 s, the deadline_s of the sweep"
    assert "made up" in rows[1]["error"]
    assert rows[2]["host"] != rows[3]["host"] == rows[4]["host"], "after an error of CUDA the process is of no use"


def test_shards_on_several_replicas(cluster, tmp_path, make_result, monkeypatch):
    """A replica dies under a shard; of another trial a shard fails while the other would go on for ever. Catches
    shards that run one after another, a whole trial that is begun again for one of them, and one that is waited for in
    vain."""
    monkeypatch.setitem(sys.modules, "mlflow", None)
    log = tmp_path / "log"
    log.mkdir()

    def run(spec, model, *, sweep, attempt, on_sample, shard):
        (log / f"{spec.seed}-{shard}-{attempt}").touch()
        if spec.seed == 0:
            deadline = time.monotonic() + 60
            while len(list(log.glob("0-*"))) < 2 and time.monotonic() < deadline:
                time.sleep(0.05)  # until both shards are being run
            if shard == 1 and attempt == 1:
                os._exit(1)
        elif shard == 0:
            time.sleep(1000)
        result = make_result(spec, sweep=sweep, attempt=attempt, status="ok" if spec.seed == 0 else "error")
        samples = [dataclasses.replace(s, sample_index=2 * s.sample_index + shard) for s in result.samples]
        return dataclasses.replace(result, turns=[], samples=samples)

    trials = [TrialSpec(model=GOOD, seed=seed, shards=2) for seed in (0, 1)]
    plan = make_plan(sweep(*trials, replicas=2), tmp_path)
    console = Console(file=io.StringIO(), width=300)
    run_on_ray(plan, recording(plan, tmp_path, console), load=lambda name, dtype, weights: name, run=run)
    rows = sorted(read_trials(tmp_path / "s").to_pylist(), key=lambda row: (row["seed"], row["attempt"]))
    assert [(row["seed"], row["attempt"], row["status"], row["n_samples"]) for row in rows] == [
        (0, 1, "killed", None),
        (0, 2, "ok", 4),
        (1, 1, "error", None),
    ]
    assert rows[0]["error"].startswith("shard 2 of 2: replica ")
    assert rows[2]["error"].startswith("shard 2 of 2: Traceback")
    assert {path.name for path in log.glob("0-*")} == {"0-0-1", "0-1-1", "0-1-2"}


def test_replicas_that_cannot_start(cluster, tmp_path, monkeypatch):
    """Catches a sweep that waits for ever for a replica that ends as it starts, and the same reason told again and
    again."""
    monkeypatch.setitem(sys.modules, "mlflow", None)

    class Unpicklable:
        def __setstate__(self, state):
            raise RuntimeError("no such library")

        def __getstate__(self):
            return {"something": 1}

        def __call__(self, name, *, dtype, weights):
            return name

    trials = [TrialSpec(model=GOOD, seed=seed) for seed in range(3)]
    plan = make_plan(sweep(*trials, replicas=2), tmp_path)
    console = Console(file=io.StringIO(), width=1000)
    run_on_ray(plan, recording(plan, tmp_path, console), load=Unpicklable(), run=None)
    rows = read_trials(tmp_path / "s").to_pylist()
    assert [row["status"] for row in rows] == ["error"] * 3
    assert all("no replica can start" in row["error"] and "no such library" in row["error"] for row in rows)


def test_an_open_cluster_is_said_to_be(cluster, tmp_path, make_result, monkeypatch):
    """Catches a warning about a cluster that takes commands from anybody, and that nobody sees."""
    monkeypatch.setitem(sys.modules, "mlflow", None)

    @contextmanager
    def connected(plug_ins):
        yield Connection(grows=True, warning="anybody may run commands")

    monkeypatch.setattr("sweeps.run.controller.connected", connected)
    plan = make_plan(sweep(TrialSpec(model=GOOD)), tmp_path)
    console = Console(file=io.StringIO(), width=1000)
    run = partial(made_up_trial, make_result)
    run_on_ray(plan, recording(plan, tmp_path, console), load=lambda name, dtype, weights: name, run=run)
    assert console.file.getvalue().splitlines().count("anybody may run commands") == 1


def made_up_trial(make_result, spec, model, *, sweep, attempt, on_sample):
    return make_result(spec, sweep=sweep, attempt=attempt)


def test_more_replicas_than_there_is_room_for(cluster, tmp_path, make_result, monkeypatch):
    """Catches a controller that waits for a replica the cluster has no room for, and a display that hides it."""
    monkeypatch.setitem(sys.modules, "mlflow", None)
    seen = []

    def run(spec, model, *, sweep, attempt, on_sample):
        result = make_result(spec, sweep=sweep, attempt=attempt)
        return dataclasses.replace(result, trial=dataclasses.replace(result.trial, host=str(os.getpid())))

    plan = make_plan(sweep(*(TrialSpec(model=GOOD, seed=seed) for seed in range(6)), replicas=5), tmp_path)

    @contextmanager
    def watched():
        with recording(plan, tmp_path, Console(file=io.StringIO())) as recorder:
            recorder.progress.add_watcher(seen.append)
            yield recorder

    run_on_ray(plan, watched(), load=lambda name, dtype, weights: name, run=run)
    rows = read_trials(tmp_path / "s").to_pylist()
    assert [row["status"] for row in rows] == ["ok"] * 6
    assert len({row["host"] for row in rows}) <= 2
    assert seen[-1].replicas_wanted == 5
    assert seen[-1].n_by_status == {"ok": 6}
    assert seen[-1].samples_done == 12


def test_metrics(cluster, tmp_path, make_result, monkeypatch):
    """Catches metrics that Prometheus does not find, or that count something else than the display."""
    monkeypatch.setitem(sys.modules, "mlflow", None)
    plan = make_plan(sweep(TrialSpec(model=GOOD), TrialSpec(model=GOOD, seed=1)), tmp_path)
    snapshot = dataclasses.replace(Progress(plan, Console()).snapshot(), n_by_status={"ok": 1}, samples_done=7)
    metrics = RayMetrics("metrics")
    metrics(snapshot)
    snapshot = dataclasses.replace(snapshot, samples_done=12, seconds_left=3.0)
    (node,) = ray.nodes()
    url = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"
    expected = {
        ("ray_kvcomm_trials", "ok"): 1.0,
        ("ray_kvcomm_trials", "waiting"): 1.0,
        ("ray_kvcomm_samples_done_total", None): 12.0,
        ("ray_kvcomm_seconds_left", None): 3.0,
    }
    found = {}
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and found != expected:
        metrics(snapshot)  # Ray forgets a gauge that is not set again
        with urllib.request.urlopen(url, timeout=10) as page:
            lines = re.findall(r"^(ray_kvcomm_\w+)\{(.*)\} (\S+)$", page.read().decode(), flags=re.MULTILINE)
        for name, labels, value in lines:
            tags = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            if tags["sweep"] == "metrics" and (name, tags.get("status")) in expected:
                found[name, tags.get("status")] = float(value)
        time.sleep(0.5)
    assert found == expected
