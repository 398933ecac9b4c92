"""A PostgreSQL server of a test's own: on a socket that only its user and root can reach, and gone after the test."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

_DRIVERS = ("psycopg", "psycopg2")
_NOBODY = 65534
_PATIENCE_S = 60.0


def find_postgres() -> Path | None:
    """The folder of PostgreSQL's programs: Debian keeps them out of PATH, by version."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "postgres").is_file()), None)


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run a server on an empty database and yield its URI. The test is skipped where there is no PostgreSQL."""
    driver = next((name for name in _DRIVERS if importlib.util.find_spec(name)), None)
    if driver is None:
        pytest.skip("needs a driver of PostgreSQL: pip install 'psycopg[binary]'")
    programs = find_postgres()
    if programs is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    # It refuses to run as root. The folder is not pytest's own, which another user cannot enter.
    ordinary = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="kvcomm-pg-", dir="/tmp") as folder:
        if ordinary:
            os.chown(folder, _NOBODY, _NOBODY)
        data = Path(folder, "data")
        make = [programs / "initdb", "-D", data, "-A", "trust", "-U", "kvcomm", "-E", "UTF8", "--no-sync"]
        subprocess.run(make, check=True, capture_output=True, cwd=folder, **ordinary)
        options = {"listen_addresses": "", "unix_socket_directories": folder, "fsync": "off"}
        command = [programs / "postgres", "-D", data, *(f"--{key}={value}" for key, value in options.items())]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=folder, **ordinary) as server:
            try:
                _wait_for(server, Path(folder, ".s.PGSQL.5432"))
                yield f"postgresql+{driver}://kvcomm@/postgres?host={folder}"
            finally:
                server.send_signal(signal.SIGINT)  # ends it although clients are there


def _wait_for(server: "subprocess.Popen[bytes]", place: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
            probe.connect(str(place))
            return
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL did not start, exit code {server.poll()}")
        time.sleep(0.1)
