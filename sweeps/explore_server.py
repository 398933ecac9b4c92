"""The notebook of ``kvcomm explore`` on loopback, behind a token, until Ctrl-C.

Whoever has the token can look at the results, and with a notebook of their own run code as this user. So the token is
new each time, and passes to the server by a pipe: everybody on a machine may read the arguments of its processes.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

import analysis.explore

HOST = "127.0.0.1"
NOTEBOOK = Path(analysis.explore.__file__).parent / "notebook.py"

_PATIENCE_S = 120.0
_GRACE_S = 5.0


class ExploreError(RuntimeError):
    """The notebook cannot be served. The message is one line."""


def serve_notebook(results: Path, port: int | None, own: Path | None, say: Callable[[str], None]) -> None:
    """Serve the notebook on these results, say its address with the token, and return when interrupted.

    ``port`` None takes a free one. ``own`` is a notebook to be changed by the user: a copy, if the file is not there
    yet. Raises ``ExploreError`` if it cannot be served.
    """
    notebook = NOTEBOOK if own is None else _copied(own)
    port = _free(port)
    token = secrets.token_urlsafe(24)
    command = [sys.executable, "-m", "marimo", "run" if own is None else "edit", str(notebook)]
    command += ["--host", HOST, "--port", str(port), "--headless", "--token", "--token-password-file", "-"]
    command += ["--skip-update-check"] if own is not None else []
    command += ["--", "--results", str(results.resolve())]
    with tempfile.TemporaryFile() as said:  # a pipe would need a reader as long as the server runs
        server = subprocess.Popen(  # noqa: S603
            command,
            env={**os.environ, "MARIMO_SKIP_UPDATE_CHECK": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,  # so that its helpers end with it
        )
        previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            if server.stdin is not None:
                with suppress(BrokenPipeError):  # it ended already, and its last line says why
                    server.stdin.write(token.encode())
                    server.stdin.close()
            if not _answers(server, f"http://{HOST}:{port}/health"):
                raise ExploreError(f"the notebook's server did not start: {_last_line(said)}")
            say(f"http://{HOST}:{port}/?access_token={token} (Ctrl-C ends it)")
            server.wait()
            raise ExploreError(
                f"the notebook's server ended by itself, exit code {server.returncode}: {_last_line(said)}"
            )
        except KeyboardInterrupt:
            pass
        finally:
            _end_group(server)
            signal.signal(signal.SIGTERM, previous)


def _copied(own: Path) -> Path:
    """Return the user's notebook; make it if it is not there."""
    if own.suffix != ".py":
        raise ExploreError(f"--notebook is {own}; allowed: a file that ends in .py")
    if not own.exists():
        try:
            own.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(NOTEBOOK, own)
        except OSError as error:
            raise ExploreError(f"--notebook is {own}, which cannot be written: {error.strerror or error}") from None
    return own


def _free(port: int | None) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port or 0))
        except OSError as error:
            raise ExploreError(f"--port is {port}; allowed: a free port, and this one is not ({error})") from None
        return int(probe.getsockname()[1])


def _answers(server: "subprocess.Popen[bytes]", health: str) -> bool:
    """Return whether the server answers in time and does not end before."""
    deadline = time.monotonic() + _PATIENCE_S
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(health, timeout=2):  # noqa: S310 - our own address
                return True
        except urllib.error.HTTPError:
            return True  # it answers, and refuses those without the token
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    return False


def _last_line(said: IO[bytes]) -> str:
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
