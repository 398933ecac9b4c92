"""The sandbox under attack: each attack is contained, by each layer that claims to, and is real without them.

An attack names its guards, the layers of which each alone contains it. It is run with all layers; for each guard,
without the other ones; and without any of them, where it must succeed, which shows that the other runs could fail.
Attacks go for files and processes that the test made for them.
"""

import os
import resource
import select
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.tools.sandbox import SandboxResult, active_layers, sandboxed

ACTIVE = active_layers()
EVERYTHING = ("bubblewrap", "namespaces", "uid", "rlimits", "landlock-files", "seccomp")
IS_ROOT = os.geteuid() == 0
SECRET = "the secret of another user"
ESCAPED = "ESCAPED"


@dataclass
class Target:
    """What there is to attack."""

    folder: Path
    """Open to every user, with a file ``secret`` that every user may read and ``open`` that every user may write."""

    port: int
    """Of a TCP and of a UDP socket on the loopback."""

    victim: int
    """Process id of a sleeping process of the user that the code would have without its layers."""

    received: Callable[[], bool]
    """Whether something reached one of the sockets."""


@pytest.fixture
def target() -> Iterator[Target]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kvcomm-target-")))
        folder.chmod(0o777)
        for name, mode in (("secret", 0o644), ("open", 0o666)):
            (folder / name).write_text(SECRET)
            (folder / name).chmod(mode)
        tcp = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))
        udp = stack.enter_context(closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
        udp.bind(tcp.getsockname())
        unix = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
        unix.bind(str(folder / "socket"))
        (folder / "socket").chmod(0o777)
        unix.listen()
        sleeping = "import os, time\nprint(os.getpid(), flush=True)\nos.close(1)\nos.close(2)\ntime.sleep(60)"
        victim = stack.enter_context(sandboxed(sleeping, leave_out=EVERYTHING, timeout_s=60))
        assert victim.refusal() is None
        assert victim._process.stdout is not None
        pid = int(victim._process.stdout.readline())
        yield Target(
            folder,
            tcp.getsockname()[1],
            pid,
            lambda: bool(select.select([tcp, udp, unix], [], [], 0)[0]),
        )


@dataclass(frozen=True)
class Attack:
    code: str
    """Prints ``ESCAPED`` if it succeeds. FOLDER, PORT and VICTIM are filled in."""

    guards: tuple[str, ...]
    """Each of them contains the attack alone; ``uid`` only if root runs the test."""

    also_without: tuple[str, ...] = ()
    """Layers that get in its way, though they are not there to contain it."""

    succeeded: Callable[[Target], bool] = lambda target: False
    """Whether the target shows it, for attacks whose effect lies outside."""


WRAPPERS = ("bubblewrap", "namespaces")
SEND = "import socket\ns = socket.socket({})\ns.connect({})\ns.send(b'x')"
READ = "text = open({!r}).read()\nassert 'secret of' in text\nprint('ESCAPED')"

ATTACKS = {
    "read a file": Attack(READ.format("FOLDER/secret"), ("landlock-files", "bubblewrap")),
    "read through a symbolic link": Attack(
        "import os\nos.symlink('FOLDER/secret', 'link')\n" + READ.format("link"),
        ("landlock-files", "bubblewrap"),
        also_without=("uid",),
    ),
    "read through a hard link": Attack(
        "import os\nos.link('FOLDER/secret', 'link')\n" + READ.format("link"), (*WRAPPERS, "landlock-files", "uid")
    ),
    "read through /proc/self/root": Attack(
        READ.format("/proc/self/root/FOLDER/secret"), ("landlock-files", "bubblewrap")
    ),
    "read through the root of another process": Attack(
        READ.format("/proc/VICTIM/root/FOLDER/secret"), ("landlock-files", "uid", "bubblewrap"), ("namespaces",)
    ),
    "read the command line of another process": Attack(
        "assert open('/proc/VICTIM/cmdline').read()\nprint('ESCAPED')", ("landlock-files", "bubblewrap")
    ),
    "read the environment of another process": Attack(
        "assert open('/proc/VICTIM/environ').read()\nprint('ESCAPED')",
        ("landlock-files", "uid", "bubblewrap"),
        ("namespaces",),
    ),
    "list a folder": Attack(
        "import os\nassert os.listdir('FOLDER')\nprint('ESCAPED')", ("landlock-files", "bubblewrap")
    ),
    "overwrite a file": Attack(
        "open('FOLDER/open', 'w').write('!')",
        (*WRAPPERS, "landlock-files"),
        succeeded=lambda target: (target.folder / "open").read_text() != SECRET,
    ),
    "truncate a file": Attack(
        "import os\nos.truncate('FOLDER/open', 0)",
        (*WRAPPERS, "landlock-files", "seccomp"),
        succeeded=lambda target: (target.folder / "open").read_text() != SECRET,
    ),
    "write a new file": Attack(
        "open('FOLDER/new', 'w').write('!')",
        (*WRAPPERS, "landlock-files"),
        succeeded=lambda target: (target.folder / "new").exists(),
    ),
    "write through a symbolic link": Attack(
        "import os\nos.symlink('FOLDER/open', 'link')\nopen('link', 'w').write('!')",
        (*WRAPPERS, "landlock-files"),
        also_without=("uid",),
        succeeded=lambda target: (target.folder / "open").read_text() != SECRET,
    ),
    "delete a file": Attack(
        "import os\nos.remove('FOLDER/open')",
        (*WRAPPERS, "landlock-files"),
        succeeded=lambda target: not (target.folder / "open").exists(),
    ),
    "change the mode of a file": Attack(
        "import os\nos.chmod('FOLDER/open', 0)",
        (*WRAPPERS, "uid", "seccomp"),
        succeeded=lambda target: (target.folder / "open").stat().st_mode & 0o777 == 0,
    ),
    "send by TCP": Attack(
        SEND.format("", "('127.0.0.1', PORT)"),
        (*WRAPPERS, "landlock-files", "seccomp"),
        succeeded=lambda t: t.received(),
    ),
    "send by UDP": Attack(
        SEND.format("type=socket.SOCK_DGRAM", "('127.0.0.1', PORT)"),
        (*WRAPPERS, "seccomp"),
        succeeded=lambda t: t.received(),
    ),
    "send by a socket that is a file": Attack(
        SEND.format("socket.AF_UNIX", "'FOLDER/socket'"), ("bubblewrap", "seccomp"), succeeded=lambda t: t.received()
    ),
    "kill another process": Attack(
        "import os, signal\nos.kill(VICTIM, signal.SIGKILL)\nprint('ESCAPED')",
        (*WRAPPERS, "uid", "landlock-files", "seccomp"),
    ),
    "kill another process by a detour": Attack(
        "import fcntl, os, signal\nr, w = os.pipe()\nfcntl.fcntl(r, fcntl.F_SETOWN, VICTIM)\nprint('ESCAPED')",
        (*WRAPPERS, "seccomp"),
    ),
    "limit another process": Attack(
        "import resource\nresource.prlimit(VICTIM, resource.RLIMIT_CPU, (1, 1))\nprint('ESCAPED')",
        (*WRAPPERS, "uid", "seccomp"),
        succeeded=lambda target: resource.prlimit(target.victim, resource.RLIMIT_CPU) == (1, 1),
    ),
    "trace another process": Attack(
        "import ctypes\nassert ctypes.CDLL(None).ptrace(0x4206, VICTIM, 0, 0) == 0\nprint('ESCAPED')",
        (*WRAPPERS, "uid", "landlock-files", "seccomp"),
    ),
    "start a program": Attack(
        "import os\nr, w = os.pipe()\nos.execv('/bin/echo', ['echo', 'ESCAPED'])",
        ("landlock-files", "seccomp", "bubblewrap"),
    ),
    "make namespaces of its own": Attack(
        "import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0\nprint('ESCAPED')", ("seccomp",)
    ),
    "start many processes": Attack(
        "import os, time\n"
        "for count in range(200):\n"
        "    try:\n        child = os.fork()\n    except OSError:\n        break\n"
        "    if child == 0:\n        time.sleep(5)\n        os._exit(0)\n"
        "print('ESCAPED' if count == 199 else count)",
        ("seccomp", "rlimits"),
    ),
    "take much memory": Attack("block = bytearray(600 << 20)\nprint('ESCAPED')", ("rlimits",)),
    "write a huge file": Attack(
        "file = open('huge', 'wb')\nfor _ in range(32):\n    file.write(bytes(1 << 20))\nprint('ESCAPED')",
        (*WRAPPERS, "rlimits", "landlock-files"),
        ("uid",),
    ),
    "fill the disk with files": Attack(
        "for name in range(32):\n    open(str(name), 'wb').write(bytes(1 << 20))\nprint('ESCAPED')",
        (*WRAPPERS, "landlock-files"),
        ("uid",),
    ),
}


def attack(name: str, target: Target, leave_out: tuple[str, ...]) -> tuple[bool, SandboxResult]:
    """Whether the attack succeeded, and what the run left behind."""
    filled = ATTACKS[name].code
    for hole, value in (("FOLDER", str(target.folder)), ("PORT", str(target.port)), ("VICTIM", str(target.victim))):
        filled = filled.replace(hole, value)
    with sandboxed(filled, leave_out=leave_out, timeout_s=20) as process:
        result = process.result()
    assert result.outcome in ("ok", "failed", "memory")
    return ESCAPED in result.stdout or ATTACKS[name].succeeded(target), result


def guards_here(name: str) -> list[str]:
    """The attack's guards that this machine should have: one wrapper, and another user only for root."""
    other_wrapper = {"bubblewrap", "namespaces"} - set(ACTIVE) if set(WRAPPERS) & set(ACTIVE) else {"bubblewrap"}
    return [g for g in ATTACKS[name].guards if g not in other_wrapper and (g != "uid" or IS_ROOT)]


@pytest.mark.parametrize("name", ATTACKS)
def test_contained(name: str, target: Target) -> None:
    """Catches a layer that is missing altogether, or that a later one undoes."""
    if not set(guards_here(name)) & set(ACTIVE):
        pytest.skip(f"this machine has none of the layers against it: {', '.join(guards_here(name))}")
    succeeded, result = attack(name, target, ())
    assert not succeeded
    assert result.layers == ACTIVE


@pytest.mark.parametrize(("name", "guard"), [(name, guard) for name in ATTACKS for guard in guards_here(name)])
def test_contained_by_one_layer(name: str, guard: str, target: Target) -> None:
    """Catches a layer that does not do what ``layers.py`` says of it, hidden behind another one that does."""
    if guard not in ACTIVE:
        pytest.skip(f"this machine has no layer {guard}")
    spec = ATTACKS[name]
    leave_out = tuple(layer for layer in (*spec.guards, *spec.also_without) if layer != guard)
    succeeded, result = attack(name, target, leave_out)
    assert guard in result.layers
    assert not succeeded


@pytest.mark.parametrize("name", ATTACKS)
def test_succeeds_without_its_guards(name: str, target: Target) -> None:
    """Catches an attack that tests nothing, because it fails by itself."""
    if "trace" in name and Path("/proc/sys/kernel/yama/ptrace_scope").exists():
        pytest.skip("this kernel restricts tracing by itself (Yama)")
    succeeded, result = attack(name, target, (*ATTACKS[name].guards, *ATTACKS[name].also_without))
    assert succeeded, result.stderr
