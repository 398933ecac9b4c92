"""Writing files that are whole or absent and survive a crash of the machine, and moving aside files in the way."""

import os
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Write ``content`` under another, hidden name, then move it to ``path``. Raise ``OSError``."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    sync_file(partial)
    partial.replace(path)
    sync_file(path.parent)


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


def sync_file(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
