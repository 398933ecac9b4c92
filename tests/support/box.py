"""Machines in a box: Linux namespaces that look like machines on a switch, and that can be unplugged and switched off.

Each machine has its own network with an address, host name, process ids, home, temporary folder and shared memory. It
sees the file system of this machine, without this repository's packages. All of this lives in a user namespace, so it
needs no privileges and cannot touch the real network.

The kernel ends every process of a machine when its first process ends. That one ends when its stdin closes. So nothing
is left behind, even if the test is killed.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("kvcomm_core", "harness", "sweeps", "analysis")
NETWORK = "10.77.0"
"""The first three parts of all addresses. They are free, since no machine sees the real network."""

_NEEDED = ("ip", "mount", "nsenter", "unshare")
_FIRST_PROCESS = """
import signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that no orphan stays a zombie
print("ready", flush=True)
sys.stdin.read()
"""
_NEW = ("--net", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc")


class NotPermittedError(Exception):
    """This system does not permit namespaces, or lacks the commands for them. The message says which."""


class Namespaces:
    """A process and its namespaces, which end with it."""

    def __init__(self, unshare: Sequence[str], setup: str = "true") -> None:
        """Run ``unshare`` with a command that runs the shell's ``setup``. Raises ``NotPermittedError``."""
        first = f"{setup} && exec {shlex.join([sys.executable, '-c', _FIRST_PROCESS])}"
        self._process = subprocess.Popen(
            [*unshare, "sh", "-c", first],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        if self._process.stdout.readline() != "ready\n":
            reason = self._process.stderr.read().strip() or "no reason given"
            self._process.wait()
            raise NotPermittedError(reason.splitlines()[-1])
        self.pid = _last_descendant(self._process.pid)
        """Id of the first process, as this machine counts."""

    def entering(self, *kinds: str) -> list[str]:
        """Return the command that runs another one in these kinds of namespaces: ``net``, ``mount`` and so on."""
        options = [f"--{kind}" for kind in ("user", *kinds)]
        return ["nsenter", f"--target={self.pid}", "--preserve-credentials", *options, "--"]

    def ip(self, *arguments: str) -> None:
        """Run ``ip`` in this network. It sees the process ids of this machine."""
        command = [*self.entering("net"), "ip", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise NotPermittedError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")

    def end(self) -> None:
        """End every process in the namespaces, at once."""
        remaining = [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)] if self.lives else []
        if remaining:
            remaining[0].kill()
        self._process.communicate(timeout=60)
        psutil.wait_procs(remaining, timeout=60)

    @property
    def lives(self) -> bool:
        """Whether the first process lives."""
        return self._process.poll() is None


class Machine:
    """A machine on the switch."""

    def __init__(self, switch: Namespaces, number: int, name: str, folder: Path, shared: Sequence[Path]) -> None:
        """Switch it on. ``folder`` gets its temporary folder. It also sees the ``shared`` paths where they are."""
        self.name, self.address = name, f"{NETWORK}.{number}"
        self.tmp = folder / name
        """Its temporary folder, as this machine sees it."""
        self._switch, self._link = switch, f"to-{number}"
        unshare = [*switch.entering("net", "mount", "pid"), "unshare", "--uts", *_NEW]
        self.namespaces = Namespaces(unshare, _setup(name, self.tmp, shared))
        pid = str(self.namespaces.pid)
        switch.ip("link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", pid)
        switch.ip("link", "set", self._link, "master", "switch", "up")
        self.namespaces.ip("address", "add", f"{self.address}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            self.namespaces.ip("link", "set", link, "up")

    def start(self, *command: str, log: Path, **variables: str) -> subprocess.Popen[bytes]:
        """Start a command on the machine. The variables of the caller's environment stay here."""
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
            "HOME": "/tmp/home",
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            **variables,
        }
        entering = [*self.namespaces.entering("net", "mount", "pid", "uts"), "env", "--chdir=/tmp/home"]
        with log.open("ab") as file:
            return subprocess.Popen(
                [*entering, *command], env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )

    def unplug(self) -> None:
        """Cut the link. The machine's processes do not notice."""
        self._switch.ip("link", "set", self._link, "down")

    def plug_in(self) -> None:
        """Heal the link."""
        self._switch.ip("link", "set", self._link, "up")

    def switch_off(self) -> None:
        """End every process of the machine at once, as a power cut does."""
        self.namespaces.end()

    def processes(self) -> list[psutil.Process]:
        """Return the machine's processes, with the ids and names that this machine knows."""
        theirs = Path(f"/proc/{self.namespaces.pid}/ns/pid").readlink()
        found = []
        for process in psutil.process_iter():
            with suppress(OSError, psutil.Error):
                if Path(f"/proc/{process.pid}/ns/pid").readlink() == theirs:
                    found.append(process)
        return found


class Box:
    """A switch without machines at first. The box itself has the first address of the network."""

    address = f"{NETWORK}.1"

    def __init__(self, switch: Namespaces, folder: Path) -> None:
        """Turn empty namespaces into a switch. Raises ``NotPermittedError``."""
        self.switch, self._folder, self._machines = switch, folder, []
        # A bridge without an address of its own takes that of a port: it would change, and be lost, with the ports.
        self.switch.ip("link", "add", "switch", "address", "02:00:00:00:00:01", "type", "bridge")
        self.switch.ip("address", "add", f"{self.address}/24", "dev", "switch")
        for link in ("lo", "switch"):
            self.switch.ip("link", "set", link, "up")

    def add(self, name: str, shared: Sequence[Path] = ()) -> Machine:
        """Add a machine."""
        machine = Machine(self.switch, 2 + len(self._machines), name, self._folder, shared)
        self._machines.append(machine)
        return machine

    def here(self) -> list[str]:
        """Return the command that runs another one on the network, with this machine's files. It ends with the box."""
        return self.switch.entering("net", "mount", "pid")


@contextmanager
def box(folder: Path) -> Iterator[Box]:
    """Make a box whose files are in ``folder``, and end all that is in it.

    Raises ``NotPermittedError`` if this system does not permit such machines: one is switched on to find out.
    """
    if missing := [name for name in _NEEDED if shutil.which(name) is None]:
        raise NotPermittedError(f"{', '.join(missing)}: not installed")
    switch = Namespaces(["unshare", "--user", "--map-root-user", *_NEW])
    try:
        made = Box(switch, folder)
        made.add("first").switch_off()
        yield made
    finally:
        switch.end()


def _setup(name: str, tmp: Path, shared: Sequence[Path]) -> str:
    """Return the shell commands that give a machine its name, folders and shared memory."""
    nothing = tmp / "nothing"
    for path in (nothing, tmp / "home"):
        path.mkdir(parents=True)
    commands = [["hostname", name], ["mount", "-t", "tmpfs", "tmpfs", "/dev/shm"]]
    commands += [["mount", "--bind", str(nothing), str(ROOT / package)] for package in PACKAGES]
    # What lies in the real temporary folder would vanish below the machine's own.
    for path in (Path(sys.prefix), Path(sys.base_prefix), *shared):
        if path.is_relative_to("/tmp"):
            place = tmp / path.relative_to("/tmp")
            place.mkdir(parents=True, exist_ok=True)
            commands.append(["mount", "--rbind", str(path), str(place)])
    commands.append(["mount", "--rbind", str(tmp), "/tmp"])
    return " && ".join(map(shlex.join, commands))


def _last_descendant(pid: int) -> int:
    process = psutil.Process(pid)
    while children := process.children():
        [process] = children
    return process.pid
