"""Writing files and folders that are whole or absent, whenever a process is killed, and moving others out of the way.

The new content is written in a *scratch* folder, where no reader looks, and moved into place when it is whole.
"""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(target: Path, scratch: Path, *, synced: bool = True) -> Iterator[Path]:
    """Yield a new path in ``scratch`` for a file or folder, which becomes ``target`` at the end of the block.

    A reader of ``target`` sees the old file or the new one, each whole, at any moment and after a kill. If ``synced``,
    that also holds after a crash of the machine, and once the block has ended, the new file survives one. An exception
    leaves the old file and removes the new one. A new folder needs a free ``target``; it is not synced.

    ``scratch`` must be on the file system of ``target``; the function makes it if it is missing. Raise ``OSError``.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    new = scratch / f"{target.name}.{secrets.token_hex(4)}"
    try:
        yield new
        if synced:
            _sync(new)
        new.replace(target)
    except BaseException:
        with suppress(OSError):
            _remove(new)
        raise
    if synced:
        _sync(target.parent)


def empty_scratch(scratch: Path) -> None:
    """Make a scratch folder, or remove what killed processes left in it. No other process may be using it.

    Raise ``OSError``.
    """
    if scratch.is_symlink():  # it may lead to somebody else's folder
        raise OSError(errno.ENOTDIR, "a link where a folder must be", str(scratch))
    scratch.mkdir(parents=True, exist_ok=True)
    for left in scratch.iterdir():
        _remove(left)


def move_aside(path: Path, target: Path) -> Path:
    """Move a file or folder to ``target`` or, if that is taken, to the first free of ``target.2``, ``target.3``, ...

    Create missing folders. Return the new place. Raise ``OSError``.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    free, number = target, 1
    while free.exists():
        number += 1
        free = target.with_name(f"{target.name}.{number}")
    path.rename(free)
    return free


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
