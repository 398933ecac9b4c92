"""The lock of a sweep's folder: one writer at a time, as long as its process lives."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from harness.results.parquet_files import StoreError
from kvcomm_core.files.regular_files import require_regular


def lock(folder: Path) -> IO[bytes]:
    """Lock the folder of a sweep until the returned file is closed.

    Raise ``BlockingIOError`` if it is locked, ``StoreError`` if the lock is no regular file, and ``OSError``. Nothing
    is written to the file, and links are not followed, since one may lead to somebody else's file.
    """
    path = folder / ".lock"
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        file = os.fdopen(os.open(path, flags, 0o644), "rb")
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise StoreError(f"{path} is a link, a folder or a socket; allowed: a regular file") from None
        raise
    try:
        require_regular(file.fileno(), path)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException as error:
        file.close()
        if isinstance(error, OSError) and error.errno == errno.EINVAL:
            raise StoreError(f"{path} is a pipe or a device; allowed: a regular file") from None
        raise
    return file


@contextmanager
def holding(folder: Path) -> Iterator[bool]:
    """Keep writers out of a sweep's folder during the block. Yield False, and keep nobody out, if one is at work
    there."""
    try:
        held = lock(folder)
    except BlockingIOError:
        yield False
        return
    except OSError:  # a folder that cannot be written has no writer
        yield True
        return
    with held:
        yield True
