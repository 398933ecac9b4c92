"""Files that are whole or absent, and survive a crash of the machine."""

import os
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Write ``content`` under another, hidden name, and put it in the place of ``path``. Raises ``OSError``."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    sync_file(partial)
    partial.replace(path)
    sync_file(path.parent)


def sync_file(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
