"""One run in the sandbox, seen from outside: the command that starts it, the output that is read, and its end."""

import marshal
import os
import secrets
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import IO, Literal

from harness.tools.sandbox.jail import library
from harness.tools.sandbox.jail.job import Job
from harness.tools.sandbox.jail.main import EXIT_MEMORY

SandboxOutcome = Literal["ok", "failed", "timeout", "memory", "output", "refused"]

OUTPUT_BYTES = 64 << 10
"""Maximum number of bytes read from stdout and stderr together."""

_PROJECT = Path(__file__).parents[3]
# -I would ignore the fixed hash seed. With an environment of our own, -s and -P are the rest of it.
_COMMAND = (str(Path(sys.executable).resolve()), "-s", "-S", "-P")
_START = (
    f"import sys; sys.path.insert(0, {str(_PROJECT)!r}); "
    "from harness.tools.sandbox.jail.main import main; del sys.path[0]; main()"
)
_TIME_ZONES = "/usr/share/zoneinfo"
_OUTCOMES: dict[int, SandboxOutcome] = {0: "ok", EXIT_MEMORY: "memory"}


@dataclass(frozen=True, slots=True)
class SandboxResult:
    """The result of one run."""

    outcome: SandboxOutcome
    """``ok`` if the exit status is 0; ``failed`` for any other end; ``timeout`` if stopped after its time;
    ``memory`` if ended by a MemoryError; ``output`` if stopped for printing too much; ``refused`` if not run at all,
    see ``stderr``."""

    stdout: str
    stderr: str
    """Standard error. If ``refused``, the reason in one line."""

    seconds: float
    """Wall-clock seconds, including the start of the interpreter."""

    layers: tuple[str, ...]
    """The layers that confined this run; empty if it was refused."""


class SandboxedProcess:
    """One run, from its start to its end. ``started`` creates it."""

    def __init__(self, process: "subprocess.Popen[bytes]", status: IO[bytes], timeout_s: float, started: float) -> None:
        self._process = process
        self._status = status
        self._started = started
        self._deadline = started + timeout_s
        self._layers: tuple[str, ...] | None = None
        self._refusal = ""

    def result(self) -> SandboxResult:
        """Wait for the end of the run, or stop it when its time is over or it prints too much."""
        texts, stopped = self._read_output()
        if stopped is None:
            try:
                self._process.wait(max(0.0, self._deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                stopped = "timeout"
        self.stop()
        seconds = time.monotonic() - self._started
        refusal = self.refusal()
        if refusal is not None and stopped != "timeout":
            reason = refusal or texts[1].strip().rpartition("\n")[2] or "it did not start"
            return SandboxResult("refused", "", f"the sandbox could not be set up: {reason}", seconds, ())
        outcome: SandboxOutcome = stopped or _OUTCOMES.get(self._process.returncode, "failed")
        return SandboxResult(outcome, texts[0], texts[1], seconds, self._layers or ())

    def refusal(self) -> str | None:
        """Wait until the layers are set up. Return None if they are, else the reason (empty if unknown)."""
        kind, _, rest = self._status.read().decode().partition(" ")
        if kind == "layers":
            self._layers = tuple(rest.split())
        elif kind:
            self._refusal = rest
        return self._refusal if self._layers is None else None

    def stop(self) -> None:
        """End the run and all its processes. Do nothing if it has ended."""
        if self._process.poll() is not None:
            return
        # The supervisor then kills the processes that it started. Do not use terminate(): it would first check whether
        # the process has just ended, and so wait for it.
        os.kill(self._process.pid, signal.SIGTERM)
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        os.killpg(self._process.pid, signal.SIGKILL)  # the group outlives its leader until we wait for the leader
        self._process.wait()

    def _read_output(self) -> tuple[list[str], Literal["timeout", "output"] | None]:
        """Read stdout and stderr until both are closed. Return them, and why reading was cut short, if it was."""
        streams = [stream for stream in (self._process.stdout, self._process.stderr) if stream is not None]
        read = {stream.fileno(): b"" for stream in streams}
        left = OUTPUT_BYTES
        stopped: Literal["timeout", "output"] | None = None
        with selectors.DefaultSelector() as selector:
            for descriptor in read:
                selector.register(descriptor, selectors.EVENT_READ)
            while selector.get_map() and stopped is None:
                ready = selector.select(max(0.0, self._deadline - time.monotonic()))
                if not ready or time.monotonic() > self._deadline:
                    stopped = "timeout"
                for key, _ in ready:
                    chunk = os.read(key.fd, 1 << 16)
                    if not chunk:
                        selector.unregister(key.fd)
                    if len(chunk) > left:
                        stopped = "output"
                    read[key.fd] += chunk[:left]
                    left -= min(left, len(chunk))
        return [content.decode("utf-8", "replace") for content in read.values()], stopped


@contextmanager
def started(
    code: str,
    *,
    namespaces: bool,
    required: Sequence[str],
    timeout_s: float,
    memory_bytes: int,
    stdin: str = "",
    pass_fds: Sequence[int] = (),
    leave_out: Sequence[str] = (),
) -> Iterator[SandboxedProcess]:
    """Start a run that ends with the block; the arguments are those of ``sandbox.sandboxed`` and of ``Job``."""
    with tempfile.TemporaryFile() as job_file, tempfile.TemporaryFile() as stdin_file:
        job = Job(
            code=code,
            namespaces=namespaces,
            library=standard_library(),
            uid=None if "uid" in leave_out else _run_uid(),
            memory_bytes=memory_bytes,
            timeout_s=timeout_s,
            required=list(required),
            leave_out=list(leave_out),
            pass_fds=list(pass_fds),
        )
        for file, content in ((job_file, marshal.dumps(asdict(job))), (stdin_file, stdin.encode())):
            file.write(content)
            file.seek(0)
        status_reader, status_writer = os.pipe()
        with os.fdopen(status_reader, "rb") as status:
            started = time.monotonic()
            try:
                process = subprocess.Popen(  # noqa: S603 - no shell, and none of it is the model's
                    [*_COMMAND, "-c", _START, str(job_file.fileno()), str(status_writer)],
                    stdin=stdin_file if stdin else subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    pass_fds=(job_file.fileno(), status_writer, *pass_fds),
                    env={"PYTHONHASHSEED": "0"},
                    start_new_session=True,
                )
            finally:
                os.close(status_writer)
            with process:
                sandboxed_process = SandboxedProcess(process, status, timeout_s, started)
                try:
                    yield sandboxed_process
                finally:
                    sandboxed_process.stop()


@cache
def standard_library() -> list[str]:
    """Return absolute paths of the standard library: its folders, its shared libraries and the time zones.

    Raise ``OSError`` or ``subprocess.SubprocessError`` if they cannot be found.
    """
    listed = subprocess.run(  # noqa: S603 - no shell, and a program of our own
        [*_COMMAND, library.__file__], stdin=subprocess.DEVNULL, capture_output=True, check=True, env={}, timeout=60
    )
    paths = listed.stdout.decode(errors="surrogateescape").rstrip("\0").split("\0")
    return [path for path in (*paths, _TIME_ZONES) if Path(path).exists()]


def _run_uid() -> int | None:
    """Return a user id for one run, from a range that systemd leaves free; None if we are not root and cannot change
    it."""
    return 0x70000000 + secrets.randbelow(0x0FFFFFFF) if os.geteuid() == 0 else None
