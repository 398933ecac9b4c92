"""What a running sweep says of itself, and what is made of it afterwards."""

import dataclasses
import io
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from harness.results.parquet_files import StoreError
from harness.results.results_writer import ResultsWriter
from harness.spec import TrialSpec
from sweeps.language.sweep_spec import SweepSpec
from sweeps.plan.planning import make_plan
from sweeps.run.recorder import recording
from sweeps.status.progress import Progress
from sweeps.status.running_file import RunningFile, is_alive, read_running
from sweeps.status.status_view import print_statuses
from sweeps.status.sweep_status import sweep_statuses

SPECS = tuple(TrialSpec(model="random:smollm2-135m", seed=seed) for seed in range(3))
TEXT = "name: s\nmodel: random:smollm2-135m\ngrid: {seed: [0, 1, 2]}\n"
SWEEP = SweepSpec(name="s", trials=SPECS, text=TEXT)


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    return make_plan(SWEEP, tmp_path)


def shown(results):
    console = Console(file=io.StringIO(), width=300)
    print_statuses(sweep_statuses(results), console)
    return console.file.getvalue()


def test_another_shell_sees_what_the_display_shows(tmp_path, plan, make_result):
    """Catches a status that knows only of trials that have ended, and a file that stays when all is done."""
    with recording(plan, tmp_path, Console(file=io.StringIO())) as recorder:
        progress = recorder.progress
        progress.wanted_replicas = 4
        progress.begin(0, SPECS[0])
        progress.begin(1, SPECS[1])
        recorder.record(SPECS[0], make_result(SPECS[0], status="oom"), began=datetime.now(UTC), replica=0)
        progress.samples(1, SPECS[1].trial_id, 3, 12)
        progress._tell_watchers()
        (status,) = sweep_statuses(tmp_path)
        assert status.running == dataclasses.replace(progress.snapshot(), **times(status.running))
        assert not status.controller_gone
        lines = shown(tmp_path).splitlines()
        assert lines[1].endswith("running")
        assert "s: 3 trials in this run: 1 oom, 1 running, 1 to go" in lines[2]
        assert lines[2].endswith(" s ago")
        assert "; 2 of 4 replicas ready" in lines[3]
        assert lines[4].startswith("s: replica 1: recall, 3 agents, dense, seed 1, sample 3/12, for 0 s")
        assert lines[5].startswith("s: failed: oom in 0 s: recall, 3 agents, dense, seed 0: ValueError: attempt 1")
    assert not (tmp_path / "s" / "running.json").exists()
    assert sweep_statuses(tmp_path)[0].running is None


def times(snapshot):
    names = ("updated_at", "trials_per_minute", "seconds_left", "working")
    return {name: getattr(snapshot, name) for name in names}


def test_a_controller_that_was_killed(tmp_path, plan):
    """Catches a sweep that seems to run for ever, and a process id that has gone to another process."""
    snapshot = Progress(plan, Console(file=io.StringIO())).snapshot()
    assert is_alive(snapshot, snapshot.updated_at + timedelta(days=1)), "slow, but there"
    assert not is_alive(dataclasses.replace(snapshot, process_started_s=1.0), snapshot.updated_at)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    gone = dataclasses.replace(snapshot, pid=ended.pid)
    assert not is_alive(gone, snapshot.updated_at)
    elsewhere = dataclasses.replace(gone, host="elsewhere")
    assert is_alive(elsewhere, snapshot.updated_at + timedelta(seconds=59))
    assert not is_alive(elsewhere, snapshot.updated_at + timedelta(seconds=61))
    writer = ResultsWriter(tmp_path, "s")
    writer.write_text("sweep.yaml", TEXT)
    RunningFile(writer, pytest.fail)(gone)
    writer._lock.close()  # as the kernel does with a killed process: the file stays
    lines = shown(tmp_path)
    assert "its controller is gone" in lines
    assert f"s: process {gone.pid} on {socket.gethostname()} ended without a word" in lines


def test_a_file_that_cannot_be_written_or_read(tmp_path, plan, monkeypatch):
    """Catches a sweep that ends because nobody can look at it, a warning a second, and a traceback in status."""
    warnings = []
    writer = ResultsWriter(tmp_path, "s")
    write = RunningFile(writer, warnings.append)
    snapshot = Progress(plan, Console(file=io.StringIO())).snapshot()
    write(snapshot)
    assert read_running(tmp_path / "s") == snapshot
    (tmp_path / "s" / "running.json").write_text('{"sweep": 1')
    with pytest.raises(StoreError, match=r"running.json cannot be read"):
        read_running(tmp_path / "s")
    (tmp_path / "s" / ".partial").rmdir()
    (tmp_path / "s" / ".partial").touch()
    for _ in range(2):
        write(snapshot)
    assert len(warnings) == 1
    assert "File exists" in warnings[0]
    writer.close()
    assert datetime.now(UTC) - snapshot.updated_at < timedelta(hours=1)
    assert snapshot.pid == os.getpid()
