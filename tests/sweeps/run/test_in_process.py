"""A sweep without Ray, from the plan to the files, with a made-up run function."""

import dataclasses
import io
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from rich.console import Console
from tiny_models import tiny_chat_model

from harness.results.parquet_files import StoreError
from harness.results.results_writer import ResultsWriter
from harness.results.sweep_folder import read_attempts, read_trials
from harness.spec import TrialSpec
from harness.workloads.recall import RecallSpec
from sweeps.language.strict_yaml import SweepError
from sweeps.language.sweep_spec import SweepSpec
from sweeps.plan.planning import make_plan
from sweeps.run.in_process import run_in_process
from sweeps.run.recorder import recording
from sweeps.status.progress import Progress

GOOD, BAD = "random:smollm2-135m", "random:qwen2.5-7b"
SWEEP = SweepSpec(
    name="s",
    trials=tuple(TrialSpec(model=model, seed=seed) for seed in (0, 1, 2) for model in (GOOD, BAD)),
    text="name: s\n",
)


@pytest.fixture(autouse=True)
def _no_mlflow(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)


def test_shards(tmp_path, make_result):
    """Catches a trial in shards that is recorded per shard, and shards run on after one has failed."""
    ran = []

    def run(spec, model, *, sweep, attempt, on_sample, shard):
        ran.append((spec.seed, shard))
        result = make_result(
            spec, sweep=sweep, attempt=attempt, status="error" if (spec.seed, shard) == (1, 1) else "ok"
        )
        samples = [replace(sample, sample_index=3 * sample.sample_index + shard) for sample in result.samples]
        return replace(result, turns=[], samples=samples)

    trials = tuple(TrialSpec(model=GOOD, seed=seed, shards=3) for seed in (0, 1))
    plan = make_plan(SweepSpec(name="s", trials=trials, text="name: s\n"), tmp_path)
    console = Console(file=io.StringIO(), width=200)
    run_in_process(plan, recording(plan, tmp_path, console), load=lambda name, dtype, weights: name, run=run)
    assert ran == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    rows = sorted(read_trials(tmp_path / "s").to_pylist(), key=lambda row: row["seed"])
    assert [(row["status"], row["n_samples"]) for row in rows] == [("ok", 6), ("error", None)]
    assert rows[1]["error"].startswith("shard 2 of 3: ")


def test_failed_trials_are_rows_and_the_sweep_goes_on(tmp_path, make_result):
    """Catches a sweep that ends with its first failure, and a model loaded anew for each trial."""
    loaded = []

    def load(name, *, dtype, weights):
        loaded.append(name)
        if name == BAD:
            raise ValueError("too big")
        return name

    def run(spec, model, *, sweep, attempt, on_sample):
        on_sample(1, 1)
        return make_result(spec, sweep=sweep, attempt=attempt, status="error" if spec.seed == 1 else "ok")

    console = Console(file=io.StringIO(), width=200)
    run_in_process(
        make_plan(SWEEP, tmp_path), recording(make_plan(SWEEP, tmp_path), tmp_path, console), load=load, run=run
    )
    rows = read_trials(tmp_path / "s").to_pylist()
    found = sorted((row["model"], row["seed"], row["status"], row["error"]) for row in rows if row["model"] == BAD)
    reason = f"model {BAD!r} cannot be loaded: too big"
    assert found == [(BAD, seed, "error", reason) for seed in (0, 1, 2)]
    assert [row["status"] for row in sorted(rows, key=lambda row: row["seed"]) if row["model"] == GOOD] == [
        "ok",
        "error",
        "ok",
    ]
    assert all(row["accuracy"] is None for row in rows if row["status"] != "ok")
    assert loaded == [GOOD, BAD]
    lines = console.file.getvalue().splitlines()
    assert sum("MLflow is left out" in line for line in lines) == 1
    name = f"recall, 3 agents, dense, model={GOOD}, seed 1"
    assert f"[2/6] error in 0 s: {name}: ValueError: attempt 1 went wrong" in lines
    assert len(lines) == 7

    again = make_plan(SWEEP, tmp_path)
    assert len(again.done) == 2
    assert set(again.next_attempt.values()) == {2}


def test_what_is_done_stays_when_interrupted(tmp_path, make_result):
    """Catches results that are kept in memory until the end, and a lock or a display left behind."""

    def run(spec, model, *, sweep, attempt, on_sample):
        if spec.seed == 1:
            raise KeyboardInterrupt
        return make_result(spec, sweep=sweep, attempt=attempt)

    plan = make_plan(SWEEP, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_in_process(
            plan,
            recording(plan, tmp_path, Console(file=io.StringIO())),
            load=lambda name, dtype, weights: name,
            run=run,
        )
    assert [attempt.finished for attempt in read_attempts(tmp_path / "s").values()] == [1]
    with recording(make_plan(SWEEP, tmp_path), tmp_path, Console(file=io.StringIO())):
        pass


def test_a_trial_over_the_deadline(tmp_path, make_result):
    """Catches a deadline that holds with Ray alone, ends the whole sweep, or passes for a failure of the trial."""

    def run(spec, model, *, sweep, attempt, on_sample):
        try:
            while spec.seed == 1:
                time.sleep(0.01)
        except Exception:  # noqa: BLE001 - as run_trial does
            return make_result(spec, sweep=sweep, attempt=attempt, status="error")
        return make_result(spec, sweep=sweep, attempt=attempt)

    sweep = dataclasses.replace(SWEEP, trials=SWEEP.trials[::2], deadline_s=0.2)
    plan = make_plan(sweep, tmp_path)
    run_in_process(
        plan,
        recording(plan, tmp_path, Console(file=io.StringIO())),
        load=lambda name, dtype, weights: name,
        run=run,
    )
    rows = sorted(read_trials(tmp_path / "s").to_pylist(), key=lambda row: row["seed"])
    assert [row["status"] for row in rows] == ["ok", "timeout", "ok"]
    assert rows[1]["error"] == "not done after 0.2 s, the deadline_s of the sweep"
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_model_too_large_for_the_memory(tmp_path):
    """Catches an error where it is memory that lacks, of which another machine may have more."""

    def load(name, *, dtype, weights):
        raise MemoryError("40 GiB")

    plan = make_plan(SWEEP, tmp_path)
    run_in_process(plan, recording(plan, tmp_path, Console(file=io.StringIO())), load=load, run=None)
    assert {row["status"] for row in read_trials(tmp_path / "s").to_pylist()} == {"oom"}


def test_a_plan_that_another_run_has_overtaken(tmp_path, make_result):
    """Catches trials that are run twice because two runs planned at the same time, and attempts written over."""
    plan = make_plan(SWEEP, tmp_path)
    writer = ResultsWriter(tmp_path, "s")
    writer.write(make_result(SWEEP.trials[0]))
    with pytest.raises(StoreError, match=r"/s has attempt [0-9a-f]{12}-1 already; an attempt is never written over"):
        writer.write(make_result(SWEEP.trials[0]))
    writer.close()
    with (
        pytest.raises(StoreError, match="has changed while this run started"),
        recording(plan, tmp_path, Console(file=io.StringIO())),
    ):
        pass


def test_an_interrupted_trial_goes_on_and_its_checkpoint_goes_away(tmp_path, monkeypatch):
    """Would catch a setting that does not arrive, a checkpoint that stays beside a finished trial or is read as a
    result, and a message that nobody gets to see."""
    spec = TrialSpec(model=GOOD, method="kvcomm", agents=2, workload=RecallSpec(limit=3), max_new_tokens=4)
    sweep = SweepSpec(name="s", trials=(spec,), text="name: s\n", checkpoint_minutes=1e-9)
    checkpoints = tmp_path / "s" / "checkpoints"

    def run(sweep):
        console = Console(file=io.StringIO(), width=400)
        plan = make_plan(sweep, tmp_path)
        run_in_process(plan, recording(plan, tmp_path, console), load=lambda name, dtype, weights: tiny_chat_model())
        return console.file.getvalue()

    def interrupt(progress, replica, trial_id, done, total):
        if done == 2:
            raise KeyboardInterrupt

    def interrupted():
        with monkeypatch.context() as patch:
            patch.setattr(Progress, "samples", interrupt)
            with pytest.raises(KeyboardInterrupt):
                run(sweep)

    interrupted()
    assert [path.name for path in checkpoints.iterdir()] == [spec.trial_id]
    assert read_attempts(tmp_path / "s") == {}
    next(checkpoints.glob("*/0/state.jsonl")).write_bytes(b"torn")
    interrupted()
    next(checkpoints.glob("*/0/state.jsonl")).write_bytes(b"torn again")
    said = run(sweep)
    assert f"moved to {tmp_path}/s/damaged/checkpoints/{spec.trial_id}-0.2; trial {spec.trial_id} begins anew" in said
    assert list(checkpoints.iterdir()) == []
    [row] = read_trials(tmp_path / "s").to_pylist()
    assert (row["status"], row["resumed_from"]) == ("ok", 0)

    (checkpoints / spec.trial_id / "0").mkdir(parents=True)  # as if killed between the result and the removal
    more = replace(sweep, trials=(spec, replace(spec, seed=1)))
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "samples", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(more)
    assert [path.name for path in checkpoints.iterdir()] == [replace(spec, seed=1).trial_id]
    run(more)
    assert list(checkpoints.iterdir()) == []
    rows = read_trials(tmp_path / "s").to_pylist()
    assert sorted((row["seed"], row["status"], row["resumed_from"]) for row in rows) == [(0, "ok", 0), (1, "ok", 1)]


def test_without_checkpoints_there_are_none(tmp_path):
    """Would catch a 0 that means "as often as can be"."""
    assert make_plan(SweepSpec(name="s", checkpoint_minutes=0), tmp_path).checkpoints is None


def test_more_shards_than_items_are_refused_before_anything_runs(tmp_path):
    """Would catch a mistake that shows after the model is loaded."""
    sweep = SweepSpec(name="s", trials=(TrialSpec(shards=4, workload=RecallSpec(limit=3)),))
    with pytest.raises(SweepError, match="shards is 4; allowed: 1 to 3, the number of items"):
        make_plan(sweep, tmp_path)


@pytest.mark.slow
def test_needs_neither_ray_nor_mlflow(tmp_path):
    """Catches an import of ray or mlflow on the way of --in-process."""
    code = """
import sys
sys.modules.update(ray=None, mlflow=None)
import io
from pathlib import Path
from rich.console import Console
from harness.spec import TrialSpec
from sweeps.run.in_process import run_in_process
from sweeps.plan.planning import make_plan
from sweeps.run.recorder import recording
from sweeps.language.sweep_spec import SweepSpec
plan = make_plan(SweepSpec(name="s", trials=(TrialSpec(model="random:smollm2-135m"),)), Path(sys.argv[1]))
def load(name, *, dtype, weights):
    raise ValueError("not today")
run_in_process(plan, recording(plan, Path(sys.argv[1]), Console()), load=load, run=lambda *a, **k: None)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "not today" in done.stdout
