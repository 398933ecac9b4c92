"""A minimal root: the paths that a job lists, read-only, an empty folder in memory, and no other file.

The old root is unmounted, so no path, link or ``..`` leads back to it. There is no ``/proc``. Nothing is left on disk,
however the process ends, because everything lives in memory and disappears with the mount namespace.
"""

import ctypes
import os
import struct
from collections.abc import Sequence

from harness.tools.sandbox.jail import libc

SCRATCH = "/scratch"
"""The only writable folder."""

DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
_THIRD_PARTY = ("site-packages", "dist-packages")  # a Python without a virtual environment has them among its own

_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 0x1, 0x2, 0x4, 0x8, 0x4000, 0x40000
_NO_DANGER = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442  # the same on every architecture
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC, _MOVE_MOUNT_F_EMPTY_PATH = 0x1, 0x80000, 0x4
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV = 0x1, 0x2, 0x4
_MNT_DETACH = 0x2


def enter(paths: Sequence[str], scratch_bytes: int) -> None:
    """Give this process a root of ``paths`` and ``DEVICES``, with an empty ``SCRATCH`` as its current folder.

    ``paths`` are absolute, files or folders, and keep their names; ``scratch_bytes`` limits what can be written. The
    process must have a mount namespace of its own. Raise ``OSError``, perhaps half-way; the process must then be given
    up.
    """
    os.umask(0o022)  # another user walks through the folders made here
    libc.call("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)
    # Copies of the mounts, taken before the new root hides some of them.
    trees = [(path, _copy(path, 0 if path in DEVICES else _ATTR_NODEV)) for path in (*paths, *DEVICES)]
    libc.call("mount", b"tmpfs", b"/dev", b"tmpfs", _NO_DANGER, b"mode=755,size=1m,nr_inodes=1024")
    os.chdir("/dev")
    for path, tree in trees:
        _attach(tree, path[1:])
    scratch = SCRATCH[1:]
    os.mkdir(scratch)  # noqa: PTH102 - pathlib takes long to import
    options = b"mode=777,size=%d,nr_inodes=1024" % scratch_bytes
    libc.call("mount", b"tmpfs", os.fsencode(scratch), b"tmpfs", _NO_DANGER, options)
    libc.call("syscall", _SYS_PIVOT_ROOT[os.uname().machine], b".", b".")
    libc.call("umount2", b".", _MNT_DETACH)  # the old root, which now lies on top of the new one
    os.chdir("/")
    for path in paths:
        _hide_third_party(path)
    _set_attributes(_AT_FDCWD, b"/", 0, _ATTR_RDONLY)
    os.chdir(SCRATCH)


def _copy(path: str, more_attributes: int) -> int:
    """Return a descriptor of a read-only copy of the mount at ``path``."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_RECURSIVE
    tree = libc.call("syscall", _SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(path), flags)
    _set_attributes(tree, b"", _AT_EMPTY_PATH | _AT_RECURSIVE, _ATTR_RDONLY | _ATTR_NOSUID | more_attributes)
    return tree


def _attach(tree: int, target: str) -> None:
    folder, _, _ = target.rpartition("/")
    if os.path.isdir(tree):  # noqa: PTH112
        folder = target
    if folder:
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
    if folder != target:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT))
    libc.call("syscall", _SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)
    os.close(tree)


def _hide_third_party(folder: str) -> None:
    for name in _THIRD_PARTY:
        hidden = f"{folder}/{name}"
        if os.path.isdir(hidden):  # noqa: PTH112
            options = b"mode=555,size=4k,nr_inodes=1"
            libc.call("mount", b"tmpfs", os.fsencode(hidden), b"tmpfs", _NO_DANGER | _MS_RDONLY, options)


def _set_attributes(descriptor: int, path: bytes, flags: int, attributes: int) -> None:
    wanted = ctypes.create_string_buffer(struct.pack("=QQQQ", attributes, 0, 0, 0), 32)
    libc.call("syscall", _SYS_MOUNT_SETATTR, descriptor, path, flags, wanted, 32)
