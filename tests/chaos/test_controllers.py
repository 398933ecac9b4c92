"""Controllers that are killed, told to end, or one too many: a process each, on a cluster of its own."""

import os
import signal

import psutil
import pytest

pytest.importorskip("ray")

from chaos_sweep import is_at_work, kill, n_finished, start, wait_until, write_sweep

from sweeps.status.sweep_status import sweep_statuses

pytestmark = [pytest.mark.slow, pytest.mark.ray]


def test_a_controller_that_is_killed_on_its_own_cluster(tmp_path):
    """Catches Ray processes that stay for ever, a lock that outlives its holder, and a second controller at work
    beside the first."""
    sweep, results = write_sweep(tmp_path, trials=200, items=3), tmp_path / "results"
    controller = start(sweep, results, "--set", "replicas=1")
    wait_until(lambda: is_at_work(controller, results) and n_finished(results), "a trial done")
    assert not sweep_statuses(results)[0].controller_gone

    before = n_finished(results)
    second = start(sweep, results, "--in-process")
    assert second.wait(60) == 2
    log = (tmp_path / "results.log").read_text()
    assert f"kvcomm: results folder {results / 'chaos'} is in use by another kvcomm run" in log
    assert "Traceback" not in log

    # Ray's two agents of a node hold nothing that anybody needs, and take a minute to notice that it is gone.
    processes = [
        process
        for process in psutil.Process(controller.pid).children(recursive=True)
        if not process.name().endswith("Agent")
    ]
    assert any("raylet" in process.name() for process in processes)
    assert any("Replica" in process.name() for process in processes)
    assert kill(controller, signal.SIGKILL) == -9
    (status,) = sweep_statuses(results)
    assert status.controller_gone
    wait_until(lambda: not any(is_running(process) for process in processes), "the end of its Ray processes", 60)

    third = start(sweep, results, "--in-process")
    wait_until(lambda: is_at_work(third, results) and n_finished(results) > before, "the next run going on")
    third.send_signal(signal.SIGTERM)
    assert third.wait(60) == 143
    assert "interrupted: " in (tmp_path / "results.log").read_text()
    assert not (results / "chaos" / "running.json").exists()


def is_running(process):
    """Whether it is there and more than an entry in the table of processes."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid()
    except psutil.NoSuchProcess:
        return False
