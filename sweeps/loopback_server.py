"""A server of another package on loopback, until Ctrl-C, with all that it starts."""

import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO

HOST = "127.0.0.1"

_PATIENCE_S = 120.0
_GRACE_S = 5.0


class ServerError(RuntimeError):
    """A server cannot be had. The message is one line."""


def free_port(port: int | None) -> int:
    """Return ``port`` if it is free, or a free one for None. Raise ``ServerError``."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port or 0))
        except (OSError, OverflowError) as error:
            raise ServerError(f"--port is {port}; allowed: a free port, and this one is not ({error})") from None
        return int(probe.getsockname()[1])


def serve(
    name: str,
    command: Sequence[str],
    health: str,
    started: Callable[[], None],
    *,
    environment: Mapping[str, str],
    secret: str | None = None,
    cleaned: Callable[[str], str] = str,
) -> None:
    """Run a server, call ``started`` once its address ``health`` answers, and return when interrupted.

    ``environment`` is added to this process's, and ``secret`` goes to the server's standard input: everybody on a
    machine may read the arguments of its processes. ``cleaned`` is what may be shown of a line that the server wrote.
    Raise ``ServerError`` if it does not start, or ends by itself; ``name`` begins the message.
    """
    with tempfile.TemporaryFile() as said:  # a pipe would need a reader as long as the server runs
        server = subprocess.Popen(  # noqa: S603
            command,
            env={**os.environ, **environment},
            stdin=None if secret is None else subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,  # so that its helpers end with it
        )
        previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            if secret is not None and server.stdin is not None:
                with suppress(BrokenPipeError):  # it ended already, and its last line says why
                    server.stdin.write(secret.encode())
                    server.stdin.close()
            if not _answers(server, health):
                _end_group(server)
                raise ServerError(f"{name} did not start: {cleaned(_last_line(said))}")
            started()
            server.wait()
            raise ServerError(f"{name} ended by itself, exit code {server.returncode}: {cleaned(_last_line(said))}")
        except KeyboardInterrupt:
            pass
        finally:
            _end_group(server)
            signal.signal(signal.SIGTERM, previous)


def _answers(server: "subprocess.Popen[bytes]", health: str) -> bool:
    """Return whether the server answers in time and does not end before."""
    deadline = time.monotonic() + _PATIENCE_S
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(health, timeout=2):  # noqa: S310 - our own address
                return True
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):  # it answers, and refuses those without the token
                return True
            time.sleep(0.2)
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    return False


def _last_line(said: IO[bytes]) -> str:
    """Return the last line of the server's output."""
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _end_group(server: "subprocess.Popen[bytes]") -> None:
    """End the server and its helpers, and kill those that do not react."""
    for ask in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, ask)
        except ProcessLookupError:
            return
        try:
            server.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            continue
