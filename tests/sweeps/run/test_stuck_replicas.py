"""Replicas that are stopped or hang, in sweeps without ``deadline_s`` on a real, small cluster."""

import ctypes
import dataclasses
import io
import os
import signal
import sys
import threading
import time
from functools import partial

import psutil
import pytest
from rich.console import Console

from harness.results.read_back import counted, read_result, read_rows
from harness.spec import TrialSpec
from sweeps.language.sweep_spec import SweepSpec
from sweeps.plan.planning import make_plan
from sweeps.run.in_process import run_in_process
from sweeps.run.recorder import recording

ray = pytest.importorskip("ray")

from chaos_sweep import wait_until  # noqa: E402
from same_rows import differences  # noqa: E402

from sweeps.run import replica_slots as replicas  # noqa: E402
from sweeps.run.controller import run_on_ray  # noqa: E402
from sweeps.run.watch import Patience  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.ray]

MODEL = "random:smollm2-135m"
PATIENCE = Patience(heartbeat_s=4, heartbeat_loading_s=4, start_s=60, load_s=60, first_sample_s=6, sample_s=6, times=2)
REPLACED = "the process that collects what replicas report did not answer; it was replaced"
END_S = 120
"""After which a sweep that goes on is taken for one that would do so for ever."""


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


@pytest.fixture(autouse=True)
def _no_mlflow(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)


def plan_of(folder, trials, **settings):
    return make_plan(SweepSpec(name="s", trials=tuple(trials), text="name: s\n", **settings), folder)


def run_sweep(
    folder, run, trials, *, patience=PATIENCE, load=lambda name, dtype, weights: name, console=None, **settings
):
    """Run a sweep, in a time that has an end; what it printed."""
    plan = plan_of(folder, trials, **settings)
    console = console or Console(file=io.StringIO(), width=1000)

    def end(*_):
        raise TimeoutError(f"the sweep goes on after {END_S} s")

    earlier = signal.signal(signal.SIGALRM, end)
    signal.alarm(END_S)
    try:
        run_on_ray(plan, recording(plan, folder, console), load=load, run=run, patience=patience)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, earlier)
    return console.file.getvalue()


def results_of(folder):
    """Of each trial what counts, by its id."""
    return {row.trial_id: read_result(folder / "s", row) for row in counted(read_rows(folder / "s"))}


def is_gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_stopped_and_hanging_replicas(cluster, tmp_path, make_result):
    """A replica is stopped, one hangs with Python's lock held, one hangs without; each once. Catches a sweep that waits
    for them for ever, rows other than those of an undisturbed run, a reason that is not in the row, and processes that
    stay."""
    pids = tmp_path / "pids"
    pids.mkdir()

    def run(spec, model, *, sweep, attempt, on_sample, pause_s=1.2):
        marker = pids / str(spec.seed)
        for done in (1, 2):
            time.sleep(pause_s)
            on_sample(done, 3)
        if spec.seed < 3 and not marker.exists():
            marker.write_text(str(os.getpid()))
            if spec.seed == 0:
                os.kill(os.getpid(), signal.SIGSTOP)
            elif spec.seed == 1:
                ctypes.PyDLL(None).sleep(1000)  # which keeps the lock, as CDLL would not
            time.sleep(1000)
        on_sample(3, 3)
        return make_result(spec, sweep=sweep, attempt=attempt)

    trials = [TrialSpec(model=MODEL, seed=seed, method="kvcomm") for seed in range(5)]
    said = run_sweep(tmp_path / "disturbed", run, trials, replicas=2)
    plan = plan_of(tmp_path / "undisturbed", trials)
    recorder = recording(plan, tmp_path / "undisturbed", Console(file=io.StringIO()))
    run_in_process(plan, recorder, load=lambda name, dtype, weights: name, run=partial(run, pause_s=0.0))

    rows = {(row.seed, row.attempt): row for row in read_rows(tmp_path / "disturbed" / "s")}
    assert {key: row.status for key, row in rows.items()} == {
        (0, 1): "killed",
        (0, 2): "ok",
        (1, 1): "killed",
        (1, 2): "ok",
        (2, 1): "timeout",
        (2, 2): "ok",
        (3, 1): "ok",
        (4, 1): "ok",
    }
    for seed in (0, 1):
        assert "it gave no sign of life for 4 s: its process was stopped, or hung" in rows[seed, 1].error
    assert "it was alive but ended no sample, where the longest so far took " in rows[2, 1].error
    assert said.count("trying again") == 3
    found, expected = results_of(tmp_path / "disturbed"), results_of(tmp_path / "undisturbed")
    assert found.keys() == expected.keys()
    for trial_id in expected:
        again = dataclasses.replace(
            found[trial_id],
            trial=dataclasses.replace(found[trial_id].trial, exclusive=True),  # as it is in one process
            turns=[dataclasses.replace(turn, attempt=1) for turn in found[trial_id].turns],
            samples=[dataclasses.replace(sample, attempt=1) for sample in found[trial_id].samples],
        )
        assert differences(again, expected[trial_id]) == []
    hung = [int(path.read_text()) for path in pids.iterdir()]
    assert len(hung) == 3
    wait_until(lambda: all(is_gone(pid) for pid in hung), "the end of the processes that hung", 30)


def test_a_trial_that_hangs_every_time(cluster, tmp_path, make_result):
    """Catches one that is begun again without an end, and a model that never loads taken for a fault of its trial."""

    def run(spec, model, *, sweep, attempt, on_sample):
        if spec.seed == 1:
            time.sleep(1000)
        return make_result(spec, sweep=sweep, attempt=attempt)

    def load(name, *, dtype, weights):
        if name != MODEL:
            time.sleep(1000)
        return name

    trials = [
        TrialSpec(model=MODEL),
        TrialSpec(model=MODEL, seed=1),
        TrialSpec(model="random:qwen2.5-7b"),
        TrialSpec(model="random:qwen2.5-7b", seed=1),
    ]
    patience = dataclasses.replace(PATIENCE, first_sample_s=1, load_s=2)
    run_sweep(tmp_path, run, trials, replicas=2, patience=patience, load=load)
    rows = {(row.model, row.seed, row.attempt): row for row in read_rows(tmp_path / "s")}
    assert rows[MODEL, 0, 1].status == "ok"
    assert [rows[MODEL, 1, attempt].status for attempt in (1, 2, 3)] == ["timeout"] * 3
    unloaded = [row for (model, _, _), row in rows.items() if model != MODEL]
    assert {row.status for row in unloaded} == {"timeout"}
    assert all("had not loaded its model for 2 s" in (row.error or "") for row in unloaded)
    assert len(rows) == 1 + 3 + len(unloaded)


def test_a_start_that_hangs(cluster, tmp_path, make_result, monkeypatch):
    """Catches a replica that hangs as it starts, for a library that does not load, and is waited for."""
    first = tmp_path / "first"

    class Hanging(replicas.Replica):
        def __init__(self, **settings):
            super().__init__(**settings)
            if not first.exists():
                first.touch()
                time.sleep(1000)

    def run(spec, model, *, sweep, attempt, on_sample):
        return make_result(spec, sweep=sweep, attempt=attempt)

    monkeypatch.setattr(replicas, "Replica", Hanging)
    patience = dataclasses.replace(PATIENCE, start_s=5)
    said = run_sweep(tmp_path, run, [TrialSpec(model=MODEL)], patience=patience)
    assert "replica 0 cannot start: it was alive but was not ready for 5 s" in said
    assert [(row.status, row.attempt) for row in read_rows(tmp_path / "s")] == [("ok", 1)]


def test_a_board_that_is_stopped(cluster, tmp_path, make_result, monkeypatch):
    """Catches replicas that are blamed for a board that does not answer, a board that stays as it is, and a sweep that
    ends with it. The trial goes on until the board was replaced, and then for longer than a replica may be silent."""
    monkeypatch.setattr(replicas, "_BOARD_S", 3.0)
    stopped = []
    console = Console(file=io.StringIO(), width=1000)
    began, replaced = tmp_path / "began", tmp_path / "replaced"

    def run(spec, model, *, sweep, attempt, on_sample):
        began.touch()
        done = left = 0
        while left < PATIENCE.heartbeat_s + 1:
            time.sleep(1.0)
            done, left = done + 1, left + replaced.exists()
            on_sample(done, None)
        return make_result(spec, sweep=sweep, attempt=attempt)

    def boards():
        found = psutil.Process().children(recursive=True)
        return [process for process in found if _title(process).startswith("ray::Board")]

    def stop_the_board():
        wait_until(lambda: began.exists() and boards(), "a board")
        time.sleep(2)
        (board,) = boards()
        board.suspend()
        stopped.append(board.pid)
        wait_until(lambda: REPLACED in console.file.getvalue(), "another board")
        replaced.touch()

    thread = threading.Thread(target=stop_the_board)
    thread.start()
    said = run_sweep(tmp_path, run, [TrialSpec(model=MODEL)], console=console)
    thread.join()
    assert [(row.status, row.attempt) for row in read_rows(tmp_path / "s")] == [("ok", 1)]
    assert said.count(REPLACED) == 1
    wait_until(lambda: is_gone(stopped[0]), "the end of the board", 30)


def _title(process):
    try:
        return (process.cmdline() or [""])[0]
    except psutil.Error:
        return ""
