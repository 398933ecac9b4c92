"""A cluster of our own while ``kvcomm run`` works on it: closed to the network and to whoever has no token, its token
nowhere to be read, and gone afterwards, after a kill with the next run."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
import strangers
from chaos_sweep import is_at_work, kill, replica_processes, start, wait_until, write_sweep

pytestmark = [pytest.mark.slow, pytest.mark.ray]

TOKEN = b"RAY_AUTH_TOKEN="
METRICS = "# HELP "
"""How Prometheus's format begins: the one thing that is told to everybody on the machine, and health."""
HEALTH = ("raylet: success\ngcs: success", "success")


@pytest.fixture(scope="module")
def place():
    """Ray's temporary folder, with a short path."""
    with tempfile.TemporaryDirectory(prefix="kvcomm-", dir="/tmp") as folder:
        yield Path(folder)


class Run:
    """``kvcomm run`` on its own cluster, with trials that take long."""

    def __init__(self, place: Path, results: Path, sweep: Path) -> None:
        self.results = results
        self.log = results.parent / f"{results.name}.log"
        home = {"HOME": str(results.parent), "RAY_TMPDIR": str(place)}
        self.process = start(sweep, results, "--set", "replicas=1", **home)
        try:
            wait_until(lambda: is_at_work(self.process, results) or self.process.poll() is not None, "a controller")
            assert self.process.poll() is None, self.log.read_text()
            wait_until(lambda: replica_processes(self.raylets()), "a replica")
        except BaseException:
            self.process.kill()
            raise

    def raylets(self) -> list[int]:
        return [process.pid for process in self.family() if process.name() == "raylet"]

    def family(self) -> list[psutil.Process]:
        return strangers.family(self.process.pid)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return write_sweep(tmp_path_factory.mktemp("sweep"), trials=10, items=2000)


@pytest.fixture(scope="module")
def run(place, tmp_path_factory, sweep):
    """Killed with SIGKILL by the last test that uses it."""
    run = Run(place, tmp_path_factory.mktemp("run") / "results", sweep)
    yield run
    if run.process.poll() is None:
        run.process.kill()


def test_nothing_answers_outside_of_this_machine(run):
    """Catches a port of GCS, raylet, workers, agents or metrics that is bound to the network."""
    doors = strangers.doors(run.process.pid)
    listening = " ".join(door.process for door in doors)
    for process in ("gcs_server", "raylet", "ray::Replica", "ray::DashboardAgent", "ray::RuntimeEnvAgent"):
        assert process in listening
    assert {door for door in doors if not door.is_on_loopback} == set()
    reached = [(host, door) for door in doors for host in strangers.outside() if strangers.lets_in(host, door.port)]
    assert reached == []


def test_nothing_is_told_without_the_token(run, tmp_path):
    """Catches a process that takes requests from whoever is on this machine: of every method that Ray has, none may
    answer; over HTTP no more than metrics and health."""
    methods = strangers.grpc_methods()
    assert len(methods) > 100
    refusing = set()
    proof = tmp_path / "proof"
    for door in strangers.doors(run.process.pid):
        statuses = strangers.ask_grpc(door.port, methods)
        assert set(statuses) <= {"UNAUTHENTICATED", "UNIMPLEMENTED", "UNAVAILABLE"}, (door, statuses)
        refusing |= {path.split("/")[1] for path in statuses.get("UNAUTHENTICATED", ())}
        spoke = "UNAUTHENTICATED" in statuses
        for method, path, body in [
            ("POST", "/api/job_agent/jobs/", {"entrypoint": f"touch {proof}", "submission_id": "stranger"}),
            ("POST", "/get_runtime_envs_info", None),
            ("GET", "/api/healthz", None),
            ("GET", "/", None),
        ]:
            answer = strangers.ask_http(door.port, method, path, body)
            if answer is not None:
                spoke = True
                status, text = answer
                is_harmless = text.startswith(METRICS) or text in HEALTH
                assert status in (401, 403, 405) or (status == 200 and is_harmless), (door, path, answer)
                assert run_token(run) not in text
        assert spoke, door
    assert not proof.exists()
    for service in ("NodeInfoGcsService", "InternalKVGcsService", "NodeManagerService", "CoreWorkerService"):
        assert f"ray.rpc.{service}" in refusing
    assert {"ray.rpc.ReporterService", "ray.rpc.ObjectManagerService"} <= refusing


def test_sockets_that_are_files_are_in_a_folder_that_others_cannot_enter(run, place):
    """Catches sockets with names of the kernel, which anybody may connect to, and a folder that others can enter."""
    ours = place / f"kvcomm-ray-{os.geteuid()}"
    assert ours.stat().st_mode & 0o777 == 0o700
    names = strangers.unix_sockets(run.process.pid)
    assert names
    assert [name for name in names if not Path(name).is_relative_to(ours)] == []


def run_token(run):
    """As the raylet has it."""
    variables = Path(f"/proc/{run.raylets()[0]}/environ").read_bytes().split(b"\0")
    [token] = [variable.removeprefix(TOKEN) for variable in variables if variable.startswith(TOKEN)]
    assert len(token) == 64
    return token.decode()


def test_the_token_is_in_the_environment_of_its_processes_alone(run, place):
    """Catches a token in an argument, a log, a record or a file, or given to what the run has started besides Ray."""
    token = run_token(run).encode()
    family = run.family()
    assert not [process.pid for process in family if token.decode() in " ".join(process.cmdline())]
    files = [path for folder in (place, run.results.parent) for path in folder.rglob("*") if path.is_file()]
    assert any(path.name == "environment.json" for path in files)
    assert any(path.name == "raylet.out" for path in files)
    assert [path for path in files if token in path.read_bytes()] == []
    assert not (run.results.parent / ".ray").exists()
    for process in family:
        assert process.environ().get("RAY_AUTH_MODE") != "disabled"


def test_a_kill_leaves_nothing_after_the_next_run(run, place, sweep, tmp_path):
    """Catches folders and processes that stay for ever, and the removal of what is not ours or still in use."""
    ours = place / f"kvcomm-ray-{os.geteuid()}"
    [left] = [path for path in ours.iterdir() if path.is_dir()]
    rays = run.family()[1:]
    assert kill(run.process, signal.SIGKILL) == -9
    assert left.exists()

    somebody = place / "ray" / "session_2020-01-01"
    somebody.mkdir(parents=True)
    unknown = ours / "notes"
    unknown.mkdir()
    used = ours / "inuse123"
    used.mkdir()
    hold = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    command = [sys.executable, "-c", hold, str(used.with_suffix(".lock"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        other.stdout.readline()
        shared_memory = set(Path("/dev/shm").glob("plasma*"))
        again = Run(place, tmp_path / "results", sweep)
        assert not left.exists()
        assert not left.with_suffix(".lock").exists()
        assert [process for process in rays if process.is_running() and process.status() != "zombie"] == []
        assert kill(again.process, signal.SIGINT) == 130
        other.communicate("\n")
    assert sorted(path.name for path in ours.iterdir()) == [".lock", "inuse123", "inuse123.lock", "notes"]
    assert somebody.exists()
    assert set(Path("/dev/shm").glob("plasma*")) <= shared_memory
