"""The program of a sandboxed process: confine itself, report the layers in force, run the code.

The first process only supervises. It forks the process that is confined and runs the code, and ends the way that
process ends. Its command line holds two descriptors. It reads the ``Job`` from one. To the other it writes a line:
``layers`` and their names before the code runs, or ``refused`` and the reason. The code never has either of them.
"""

from __future__ import annotations

import marshal
import os
import random
import resource
import signal
import sys
from types import FrameType, ModuleType, SimpleNamespace

from harness.tools.sandbox.jail import landlock, libc, namespaces, root, seccomp

TYPE_CHECKING = False  # typing and dataclasses would take half as long to import as Python takes to start
if TYPE_CHECKING:
    from typing import NoReturn

    from harness.tools.sandbox.jail.job import Job

EXIT_MEMORY = 113
"""Exit status of code that ran out of memory. Code may also exit with it, and then only mislabels its own failure."""

_SCRATCH_BYTES = 16 << 20
_FILE_BYTES = 4 << 20
_OPEN_FILES = 64
_THREADS = 32
_SUPERVISOR_GRACE_S = 5


def main() -> NoReturn:
    job_fd, status_fd = int(sys.argv[1]), int(sys.argv[2])
    with os.fdopen(job_fd, "rb") as file:
        job = _job(file.read())
    try:
        os.chdir("/proc")  # without a minimal root: a folder where nobody, not even root, can create files
        if job.namespaces:
            namespaces.enter()
            root.enter(job.library, _SCRATCH_BYTES)
        child = os.fork()
    except OSError as error:
        _refuse(status_fd, str(error))
    if child:
        _supervise(child, job, status_fd)
    try:
        layers = _confine(job)
    except OSError as error:
        _refuse(status_fd, str(error))
    missing = [layer for layer in job.required if layer not in layers]
    if missing:
        _refuse(status_fd, f"could not be set up this time: {', '.join(missing)}")
    os.write(status_fd, " ".join(["layers", *layers]).encode())
    os.close(status_fd)
    _run(job.code)


def _job(fields: bytes) -> Job:
    job: Job = SimpleNamespace(**marshal.loads(fields))  # type: ignore[assignment]  # noqa: S302 - the caller wrote it
    return job


def _refuse(status_fd: int, reason: str) -> NoReturn:
    os.write(status_fd, f"refused {reason}".encode())
    os._exit(1)


def _supervise(child: int, job: Job, status_fd: int) -> NoReturn:
    """Wait for ``child`` and end the way it does. Kill it if told to end, or if nobody is left to say so."""

    def kill(signal_number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
        os.kill(child, signal.SIGKILL)

    signal.signal(signal.SIGTERM, kill)
    signal.signal(signal.SIGALRM, kill)
    signal.alarm(int(job.timeout_s) + _SUPERVISOR_GRACE_S)
    libc.die_with_parent(signal.SIGTERM)
    for descriptor in (0, 1, 2, status_fd, *job.pass_fds):
        os.close(descriptor)  # else nobody would see the child close its own
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _confine(job: Job) -> list[str]:
    """Set up every layer but the namespaces and the root, and return the names of all layers in force."""
    layers = ["namespaces", "minimal-root"] if job.namespaces else []
    home = os.getcwd()  # noqa: PTH109
    if not job.namespaces:
        _keep_standard_library()
    if job.uid is not None and _become(job.uid):
        layers.append("uid")
    if "rlimits" not in job.leave_out:
        _limit(job)
        layers.append("rlimits")
    os.environ.clear()
    os.environ.update({"HOME": home, "TMPDIR": home, "LANG": "C.UTF-8", "TZ": "UTC"})
    libc.die_with_parent(signal.SIGKILL)
    libc.drop_capabilities()
    libc.no_new_privileges()
    version = 0 if "landlock-files" in job.leave_out else landlock.abi()
    if version:
        allowed = _allowed_files(job)
        landlock.restrict(version, allowed)
        for descriptor, _ in allowed:
            os.close(descriptor)
        # Before ABI 3, Landlock does not stop a process from emptying files that the user may write.
        if version >= 3 or {"uid", "namespaces"} & set(layers):
            layers.append("landlock-files")
        layers += ["landlock-tcp"] if version >= 4 else []
        layers += ["landlock-signals"] if version >= 6 else []
    if "seccomp" not in job.leave_out and seccomp.known_machine():
        seccomp.restrict()
        layers.append("seccomp")
    return layers


def _keep_standard_library() -> None:
    """Make imports go through open folders, since another user may not walk the path to them (as beneath /root)."""
    folders = {path: os.open(path, os.O_PATH) for path in sys.path if os.path.isdir(path)}  # noqa: PTH112
    sys.path[:] = [f"/proc/self/fd/{descriptor}" for descriptor in folders.values()]
    for module in list(sys.modules.values()):
        for path in getattr(module, "__path__", []) if isinstance(module, ModuleType) else []:
            parent = os.path.dirname(path)  # noqa: PTH120
            if parent in folders:
                module.__path__ = [f"/proc/self/fd/{folders[parent]}/{os.path.basename(path)}"]  # noqa: PTH119


def _become(uid: int) -> bool:
    try:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    except OSError:  # root of a container that may not change users, or that lacks this user
        return False
    return True


def _limit(job: Job) -> None:
    for name, limit in (
        (resource.RLIMIT_AS, job.memory_bytes),
        (resource.RLIMIT_CPU, int(job.timeout_s) + 1),
        (resource.RLIMIT_FSIZE, _FILE_BYTES),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_NPROC, _THREADS),
        (resource.RLIMIT_CORE, 0),
    ):
        _, most = resource.getrlimit(name)
        lowest = limit if most == resource.RLIM_INFINITY else min(limit, most)
        resource.setrlimit(name, (lowest, lowest))


def _allowed_files(job: Job) -> list[tuple[int, int]]:
    if job.namespaces:
        rights = [("/", landlock.READ), (root.SCRATCH, landlock.READ_WRITE)]
    else:
        rights = [(path, landlock.READ) for path in (*sys.path, *job.library)]
    rights += [(path, landlock.READ_FILE | landlock.WRITE_FILE) for path in root.DEVICES]
    allowed = []
    for path, right in rights:
        try:
            allowed.append((os.open(path, os.O_PATH | os.O_CLOEXEC), right))
        except OSError:  # not available on this machine, or not for this user
            continue
    return allowed


def _run(code: str) -> NoReturn:
    """Run ``code`` as the main module; an exception ends the process as it would end any interpreter."""
    random.seed(0)  # with the fixed hash seed: the same answer gives the same result
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.argv = [""]
    try:
        exec(compile(code, "<code>", "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - what all this is for
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever the code raises
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next  # begin with the code's own line
        sys.__excepthook__(type(error), error, error.__traceback__)
        sys.exit(EXIT_MEMORY if isinstance(error, MemoryError) else 1)
    sys.exit(0)
