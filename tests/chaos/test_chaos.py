"""Kill anything: a sweep of real trials loses replicas, nodes and its controller again and again, and comes out as if
nothing had happened.

The short form, part of every test run, kills a replica, a node and the controller; ``--chaos-long`` kills 30. The
order, and how the controller dies, are drawn anew each time and printed with the seed.
"""

import random
import shutil
import signal
import tempfile
import time

import pytest

pytest.importorskip("ray")

from chaos_sweep import is_at_work, kill, n_finished, replica_processes, rows_of, start, wait_until, write_sweep
from ray.cluster_utils import Cluster

from harness.results.sweep_folder import read_trials
from sweeps.run.own_cluster import LOOPBACK, closed_variables
from sweeps.run.ray_authentication import variables

pytestmark = [pytest.mark.slow, pytest.mark.ray]

SHORT, LONG = 3, 30
TRIALS = {SHORT: 20, LONG: 40}
"""A trial or more between two kills. Each start of a process takes as long as many trials."""
CONTROLLERS = ("controller SIGKILL", "controller SIGINT", "controller SIGTERM")
NODE = {"num_cpus": 1, "node_ip_address": LOOPBACK, "object_store_memory": 80 * 2**20}
EXIT_CODES = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}


@pytest.fixture(scope="module")
def cluster():
    """A head without room for replicas and two nodes with room for one each."""
    folder = tempfile.mkdtemp(prefix="ray-")  # a short path, as sockets need; Ray notes the last address there, too
    detection = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000, "health_check_timeout_ms": 3000}
    head = {**NODE, "num_cpus": 0, "include_dashboard": False, "_system_config": detection}
    with variables({**closed_variables(), "RAY_TMPDIR": folder}):
        cluster = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(2):
            cluster.add_node(**NODE)
        yield cluster
        cluster.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


class Chaos:
    """Keeps a controller running, and kills."""

    def __init__(self, cluster, sweep, results, seed):
        self.cluster, self.sweep, self.results = cluster, sweep, results
        self.random = random.Random(seed)
        self.controller = self.start()

    def start(self):
        return start(self.sweep, self.results, address=self.cluster.address)

    def strike(self, kind):
        """Kill one thing of a kind, somewhere between two moments of a trial."""
        wait_until(lambda: is_at_work(self.controller, self.results), "a controller at work")
        time.sleep(self.random.uniform(0, 0.5))
        print(f"{n_finished(self.results)} trials done: {kind}")
        if kind == "replica":
            raylets = [node.all_processes["raylet"][0].process.pid for node in self.cluster.worker_nodes]
            wait_until(lambda: replica_processes(raylets), "a replica")
            self.random.choice(replica_processes(raylets)).kill()
        elif kind == "node":
            node = self.random.choice(list(self.cluster.worker_nodes))
            self.cluster.remove_node(node, allow_graceful=False)
            self.cluster.add_node(**NODE)
        else:
            how = signal.Signals[kind.split()[1]]
            assert kill(self.controller, how) == EXIT_CODES[how]
            self.controller = self.start()


def test_a_sweep_that_loses_everything_it_runs_on(cluster, tmp_path, request):
    """Catches trials that are lost, doubled, left in part or changed by what happens around them, a controller that
    waits for ever for something dead, and a resume that does not go on from what was done."""
    kills = LONG if request.config.getoption("--chaos-long") else SHORT
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    trials = TRIALS[kills]
    sweep = write_sweep(tmp_path, trials=trials, items=3)
    undisturbed = tmp_path / "undisturbed"
    assert start(sweep, undisturbed, "--in-process").wait(300) == 0

    results = tmp_path / "results"
    chaos = Chaos(cluster, sweep, results, seed)
    kinds = ["replica", "node", chaos.random.choice(CONTROLLERS)]
    if kills == LONG:
        kinds = ["replica", "node", *CONTROLLERS] * (LONG // 5)
    chaos.random.shuffle(kinds)
    for number, kind in enumerate(kinds):
        # Spread over the sweep, the first when a trial is done and the last when a few are left.
        done = 1 + number * (trials - 6) // kills
        wait_until(lambda done=done: n_finished(results) >= done, f"{done} trials", 200)
        chaos.strike(kind)
    for _ in range(5):
        if chaos.controller.wait(300) == 0:
            break
        chaos.controller = chaos.start()  # a trial under which three replicas died in a row is left to the next run
    assert chaos.controller.returncode == 0

    expected, found = rows_of(undisturbed), rows_of(results)
    assert expected["trials"].num_rows == trials
    assert expected["turns"].num_rows == trials * 3 * 2
    for table in expected:
        assert found[table].equals(expected[table]), table
    attempts = read_trials(results / "chaos").to_pylist()
    print(f"{sum(bool(row['resumed_from']) for row in attempts)} trials went on from a checkpoint")
    statuses = {row["status"] for row in attempts}
    assert statuses <= {"ok", "killed"}
    assert not (results / "chaos" / "damaged").exists()
    assert list((results / "chaos" / "checkpoints").iterdir()) == []
    assert not (results / "chaos" / "running.json").exists()
    assert list((results / "chaos" / ".partial").iterdir()) == []
