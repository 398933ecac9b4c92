"""Disks that are full, read-only or hold damaged files, as ``kvcomm run`` meets them."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_up import make_result
from typer.testing import CliRunner

import sweeps.run.in_process
from harness.replica import Replica
from harness.results.sweep_folder import read_attempts
from sweeps.cli import app

__all__ = ["make_result"]

SWEEP = "name: small\nmodel: random:smollm2-135m\ngrid: {seed: [0, 1, 2, 3, 4, 5, 6, 7]}\n"


@pytest.fixture
def run(tmp_path, monkeypatch, make_result):
    """``run(results)`` runs the sweep with made-up trials of some 100 kB and gives what the command gave."""
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.yaml").write_text(SWEEP)

    class MadeUpReplica(Replica):
        def __init__(self, *, cpus, load, run, report, exclusive, allow_unsafe_code, checkpoints):
            super().__init__(cpus=cpus, load=lambda name, dtype, weights: name, run=made_up, report=report)

    def made_up(spec, model, *, sweep, attempt, on_sample):
        return make_result(spec, sweep=sweep, attempt=attempt, samples=400)

    monkeypatch.setattr(sweeps.run.in_process, "Replica", MadeUpReplica)
    return lambda results: CliRunner().invoke(app, ["run", "sweep.yaml", "--in-process", "--results", str(results)])


@pytest.fixture
def mount(tmp_path):
    """``mount(options)`` puts a small file system of its own under the results, or skips where that is not allowed."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = []

    def at(options):
        again = ["-o", f"remount,{options}"] if mounted else ["-o", options]
        done = subprocess.run(["mount", "-t", "tmpfs", *again, "tmpfs", str(place)], capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"mounting a tmpfs is not allowed here: {done.stderr.decode().strip()}")
        mounted.append(options)
        return place

    yield at
    if mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


def assert_nothing_half_written(folder, n_finished):
    """Whole attempts alone, and no file that belongs to none."""
    attempts = read_attempts(folder)
    assert len(attempts) == n_finished
    assert all(attempt.finished == 1 for attempt in attempts.values())
    for table in ("trials", "turns", "samples"):
        names = {path.name for path in (folder / table).iterdir()}
        assert names == {f"{trial_id}-1.parquet" for trial_id in attempts}
    assert list((folder / ".partial").iterdir()) == []


def assert_stopped_by(done, reason):
    """One line on stderr, after whatever was printed on the way."""
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("kvcomm: ")
    assert f"cannot be written: {reason}" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_full_disk(run, mount):
    """Catches a sweep that goes on and throws its results away, half an attempt left behind, and a traceback."""
    place = mount("size=280k")
    done = run(place / "results")
    assert_stopped_by(done, "No space left on device")
    finished = len(list((place / "results" / "small" / "trials").iterdir()))
    assert 0 < finished < 8, "the disk is to fill up on the way"
    assert_nothing_half_written(place / "results" / "small", finished)
    mount("size=8m")
    assert run(place / "results").exit_code == 0
    assert_nothing_half_written(place / "results" / "small", 8)


def test_a_disk_that_is_full_when_asked_to_sync(run, tmp_path, monkeypatch):
    """Catches the same where the file system takes the bytes first and refuses later, as NFS does; needs no mount."""
    fsync, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 15:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    assert_stopped_by(run("results"), "No space left on device")
    finished = len(list(Path("results/small/trials").iterdir()))
    assert 0 < finished < 8
    assert_nothing_half_written(Path("results/small"), finished)
    monkeypatch.undo()


@pytest.mark.slow
def test_a_read_only_disk(run, mount):
    """Catches a sweep that computes for hours what it cannot keep: folders that exist already prove nothing."""
    place = mount("size=8m")
    assert run(place / "results").exit_code == 0
    (place / "results" / "small" / "trials").joinpath(next(os.walk(place / "results/small/trials"))[2][0]).unlink()
    mount("ro")
    assert_stopped_by(run(place / "results"), "Read-only file system")
    mount("rw")
    assert run(place / "results").exit_code == 0


@pytest.mark.slow
def test_damaged_files_are_set_aside_and_said_to_be(run, tmp_path):
    """Catches a torn file that stops everything, one dropped without a word, and a trial that is not run again."""
    assert run("results").exit_code == 0
    folder = Path("results/small")
    torn, foreign = sorted((folder / "trials").iterdir())[0], folder / "turns" / "notes.txt"
    torn.write_bytes(torn.read_bytes()[:100])
    foreign.write_text("?")
    status = CliRunner().invoke(app, ["status", "results"])
    for path in (torn, foreign):
        assert f"small: {path} is damaged and not counted" in status.output
    planned = CliRunner().invoke(app, ["plan", "sweep.yaml"]).output
    assert f"damaged: {torn}: " in planned
    assert "8 trials, 7 done, 1 to run" in planned
    assert torn.exists(), "a plan moves nothing"
    done = run("results")
    assert done.exit_code == 0
    assert f"damaged: {foreign}: no Parquet file; moved to results/small/damaged/turns/notes.txt" in done.output
    status = CliRunner().invoke(app, ["status", "results"]).output
    aside = ", ".join(f"{table}/{torn.name}" for table in ("samples", "trials", "turns"))
    assert f"small: damaged files set aside in results/small/damaged: {aside}, turns/notes.txt" in status
    assert_nothing_half_written(folder, 8)
    (folder / "samples" / "more.parquet").write_text("?")
    done = run("results")
    assert "nothing to run" in done.output
    assert "moved to results/small/damaged/samples/more.parquet" in done.output
