"""The private folder of our own Ray cluster, with its sockets, ports and logs. It is removed with the cluster.

It is ``kvcomm-ray-UID/NAME`` in the temporary folder, and its creator holds a lock on NAME.lock beside it for as long
as it lives. A free lock means that this process was killed: the next run ends what is left of that cluster and removes
its folder. Ray's shared memory has no name, and vanishes with its processes.
"""

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil

from sweeps.language.strict_yaml import SweepError

LONGEST = 43
"""The most characters of a folder's path: a socket's path may have 107, and Ray's own part takes up to 64."""

_RAY = ("ray::", "/ray/")
"""Each of Ray's command lines contains one of these; other processes, such as a pager on a log, are left alone."""
_PATIENCE_S = 5.0


@contextmanager
def cluster_folder() -> Iterator[Path]:
    """Make a new folder, and remove it with its contents at the end. Remove the folders of killed runs first.

    Raises ``SweepError`` if the temporary folder cannot hold it.
    """
    try:
        parent = _parent()
        with _locked(parent / ".lock"):  # else a folder not yet locked could look like a dead run's
            _remove_left_behind(parent)
            folder = Path(tempfile.mkdtemp(prefix="", dir=parent))
            lock = _locked(folder.with_suffix(".lock"))
    except OSError as error:
        raise SweepError(f"no folder for Ray's sockets and logs: {error}; RAY_TMPDIR names another place") from None
    with lock:
        try:
            yield folder
        finally:
            _remove(folder, _PATIENCE_S)


def _parent() -> Path:
    """Return the folder of all our clusters, closed to others. Raises ``OSError`` if it is not ours alone."""
    name = f"kvcomm-ray-{os.geteuid()}"
    places = [os.environ.get("RAY_TMPDIR"), tempfile.gettempdir(), "/tmp"]  # noqa: S108 - made with mode 0700
    parents = [Path(place, name).absolute() for place in places if place]
    parent = next(path for path in parents if len(f"{path}/12345678") <= LONGEST)
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = parent.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(f"{parent} is not a folder of this user alone, with mode 0700")
    return parent


def _locked(path: Path, *, wait: bool = True) -> IO[str]:
    """Open and lock ``path``. Raises ``BlockingIOError`` if another process has the lock and ``wait`` is false."""
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BaseException:
        file.close()
        raise
    return file


def _remove_left_behind(parent: Path) -> None:
    for path in parent.glob("?*.lock"):
        with contextlib.suppress(BlockingIOError), _locked(path, wait=False):
            _remove(path.with_suffix(""), 0)


def _remove(folder: Path, patience_s: float) -> None:
    """Wait for the cluster's processes, kill those that remain, and remove folder and lock."""
    deadline = time.monotonic() + patience_s
    while (remaining := _processes(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in remaining:  # after a kill, Ray's agents would stay another minute
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(remaining, _PATIENCE_S)
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():  # otherwise the next run tries again
        folder.with_suffix(".lock").unlink(missing_ok=True)


def _processes(folder: Path) -> list[psutil.Process]:
    """Return this user's Ray processes with a file open below ``folder``; all of a cluster's have their logs open."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid == os.getpid() or process.uids().effective != os.geteuid():
                continue
            command = " ".join(process.cmdline())
            if any(part in command for part in _RAY) and any(
                Path(file.path).is_relative_to(folder) for file in process.open_files()
            ):
                found.append(process)
    return found
