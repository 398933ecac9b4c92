"""A cluster that is not ours: machines of their own on one network, a job of ``kvcomm submit``, and results on S3.

The machines share no folder but the model's. The box is made of namespaces (``tests/support/box.py``), and S3 is moto's
server. Where namespaces are not permitted, the test is skipped and says why.
"""

import os
import secrets
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

pytest.importorskip("ray")
pytest.importorskip("moto", reason="needs moto, the S3 server, which pip install '.[dev]' brings")

from box import ROOT, Box, Machine, NotPermittedError, box
from chaos_sweep import rows_of, start, wait_until, write_model

from harness.results.sweep_folder import read_trials

pytestmark = [pytest.mark.slow, pytest.mark.ray]

S3_PORT = 5000
S3 = f"s3://bucket/results?endpoint_override={Box.address}:{S3_PORT}&scheme=http"
S3 += "&region=us-east-1&allow_bucket_creation=true"
KEYS = {"AWS_ACCESS_KEY_ID": "our-key", "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16)}
_CHECKS = {"initial_delay_ms": "1000", "period_ms": "1000", "timeout_ms": "1000"}
DETECTION = {f"RAY_health_check_{name}": value for name, value in _CHECKS.items()}
"""Five checks in a row have to fail, which takes Ray more than a minute by default, and here ten seconds."""

LABEL = "--labels=ray.io/accelerator-type=Abacus"
"""The label of every machine but the head, whose CPUs Ray would take first."""
TRIALS = 10
SWEEP = """
name: chaos
model: {model}
replicas: 2
cpus_per_replica: 1
gpus_per_replica: 0
accelerator: Abacus
workload: {{name: "unhurried:Unhurried", limit: 2}}
agents: 2
max_new_tokens: 8
grid:
  shards: [1, 2]
  method: [dense, prefix, naive, cacheblend, kvcomm]
"""
PLUG_IN = '''
"""The workload recall, with a pause after each answer."""

import os
import time
from dataclasses import dataclass
from typing import Literal

import pauses
from harness.workloads.recall import RecallSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Unhurried(RecallSpec):
    name: Literal["unhurried:Unhurried"] = "unhurried:Unhurried"

    @property
    def team(self):
        return "recall"

    def grade_answer(self, item, answer, *, allow_unsafe):
        if "AWS_SECRET_ACCESS_KEY" not in os.environ:
            raise OSError("a replica without credentials")
        time.sleep(pauses.seconds())
        return RecallSpec.grade_answer(self, item, answer, allow_unsafe=allow_unsafe)
'''
FILES = {
    "unhurried.py": PLUG_IN,
    "pauses.py": "import os\n\n\ndef seconds():\n    return float(os.environ.get('PAUSE_S', 0))\n",
    "runtime-env.yaml": "env_vars: {PAUSE_S: '4'}",
}
LIST_AND_FETCH = """
from pathlib import Path
from ray.job_submission import JobSubmissionClient
from harness.results.uri_mirror import Mirror
print(JobSubmissionClient({address!r}).list_jobs())
Mirror({uri!r}, Path({folder!r})).pull()
"""


@pytest.fixture
def network(tmp_path):
    """A box without machines."""
    try:
        with box(tmp_path / "machines") as made:
            yield made
    except NotPermittedError as reason:
        pytest.skip(f"no namespaces: {reason}")


class Cluster:
    """A Ray cluster in a box, with S3 beside it."""

    def __init__(self, network: Box, folder: Path) -> None:
        self.network, self.folder = network, folder
        self.token = secrets.token_hex(32)
        (folder / "token").write_text(self.token)
        self.here("s3", "-m", "moto.server", f"--host={Box.address}", f"--port={S3_PORT}")
        self.head = self.add("head", "--head", "--port=6379", "--num-cpus=2", "--dashboard-host=0.0.0.0")
        self.address = f"http://{self.head.address}:8265"

    def add(self, name: str, *options: str) -> Machine:
        """Switch a machine on and start Ray on it."""
        machine = self.network.add(name, [self.folder / "model"])
        (machine.tmp / "home" / ".ray").mkdir()
        (machine.tmp / "home" / ".ray" / "auth_token").write_text(self.token)
        self.start_ray(machine, *(options or (f"--address={self.head.address}:6379", "--num-cpus=1", LABEL)))
        return machine

    def start_ray(self, machine: Machine, *options: str) -> None:
        """Start Ray on a machine."""
        own = (f"--node-ip-address={machine.address}", "--object-store-memory=100000000", "--disable-usage-stats")
        log = self.folder / f"{machine.name}.log"
        command = (sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *own, *options)
        machine.start(*command, log=log, RAY_AUTH_MODE="token", **DETECTION)

    def has_started(self, machine: Machine) -> bool:
        """Return whether Ray runs on the machine."""
        return "Ray runtime started" in (self.folder / f"{machine.name}.log").read_text()

    def here(self, log: str, *arguments: object, **variables: str) -> subprocess.Popen[bytes]:
        """Start Python on the network, with the files of this machine."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "token", **KEYS}
        environment["RAY_AUTH_TOKEN_PATH"] = str(self.folder / "token")
        with (self.folder / f"{log}.log").open("ab") as file:
            return subprocess.Popen(
                [*self.network.here(), "env", f"--chdir={self.folder}", sys.executable, *map(str, arguments)],
                env={**environment, **variables},
                stdout=file,
                stderr=file,
            )


def replicas(machine: Machine) -> list[psutil.Process]:
    """Return the replicas on the machine that run a trial: Ray names a process after what it does."""
    found = []
    for process in machine.processes():
        with suppress(psutil.Error):
            if process.cmdline()[:1] == ["ray::Replica.run"]:
                found.append(process)
    return found


def log_files(machine: Machine) -> list[Path]:
    """Return the files that Ray and its processes wrote on the machine for people to read."""
    return [path for path in (machine.tmp / "ray").rglob("logs/**/*") if path.is_file()]


def test_a_cluster_that_is_not_ours(network, tmp_path):
    """Catches trials that are lost, counted twice or changed when a machine's link is cut and heals, another loses its
    power and a third joins; a job that needs a folder shared by the machines; plug-ins, variables and credentials that
    do not reach the controller and the replicas; a replica on a machine with another accelerator; and credentials that
    show in a list of jobs, a log or a record."""
    began = time.monotonic()
    sweep, log, results, undisturbed = (tmp_path / name for name in ("sweep.yaml", "job.log", "results", "undisturbed"))
    sweep.write_text(SWEEP.format(model=write_model(tmp_path)))
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    cluster = Cluster(network, tmp_path)
    left, right = (cluster.add(name) for name in ("left", "right"))
    assert start(sweep, undisturbed, "--in-process", **KEYS).wait(300) == 0
    wait_until(lambda: all(map(cluster.has_started, (cluster.head, left, right))), "a cluster")

    options = ["--address", cluster.address, "--results", S3, "--runtime-env", "runtime-env.yaml"]
    job = cluster.here("job", "-m", "sweeps.cli", "submit", sweep, *options, *(f"--env={name}" for name in KEYS))

    def wait_for(happened, what):
        wait_until(lambda: job.poll() is not None or happened(), what)
        assert job.poll() is None, log.read_text()
        print(f"{time.monotonic() - began:.0f} s: {what}")

    def losses():
        return log.read_text().count("; trying again")

    cut_off = []

    def both_work():
        cut_off[:] = replicas(left)
        return "] ok in " in log.read_text() and cut_off and replicas(right)

    wait_for(both_work, "both machines work")
    left.unplug()
    wait_for(lambda: losses() == 1, "the machine whose link was cut is missed")
    assert cut_off[0].is_running()
    left.plug_in()
    cluster.add("third")
    wait_for(lambda: not cut_off[0].is_running(), "the replica that was cut off came back, and ended")
    before = losses()
    right.switch_off()  # there may be no machine at all for a while
    wait_for(lambda: losses() > before, "the machine without power is missed")
    assert job.wait(200) == 0, log.read_text()
    print(f"{time.monotonic() - began:.0f} s: the job is done")

    listed = cluster.here("jobs", "-c", LIST_AND_FETCH.format(address=cluster.address, uri=S3, folder=str(results)))
    assert listed.wait(100) == 0
    expected, found = rows_of(undisturbed), rows_of(results)
    assert expected["trials"].num_rows == TRIALS
    assert expected["turns"].num_rows == TRIALS * 2 * 2
    for table in expected:
        assert found[table].equals(expected[table]), table
    attempts = read_trials(results / "chaos").to_pylist()
    ok = [row for row in attempts if row["status"] == "ok"]
    assert sorted(row["trial_id"] for row in ok) == expected["trials"]["trial_id"].to_pylist(), "each counts once"
    hosts = {host for row in ok for host in row["host"].split()}  # shards of a trial may run on several
    assert hosts == {"left", "right", "third"}
    assert {row["status"] for row in attempts} == {"ok", "killed"}

    assert "chaos" in (tmp_path / "jobs.log").read_text(), "the job is listed"
    secret = KEYS["AWS_SECRET_ACCESS_KEY"]
    for path in [log, tmp_path / "jobs.log", *log_files(cluster.head), *log_files(right)]:
        assert secret not in path.read_text(errors="replace"), path
    assert secret not in repr(attempts)
