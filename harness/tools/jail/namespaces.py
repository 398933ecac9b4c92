"""Namespaces: a process gets a machine with no network, no other process, and files that are all read-only."""

import ctypes
import os
import struct

from harness.tools.jail import libc

_NEW_MOUNTS, _NEW_IPC, _NEW_USER, _NEW_PIDS, _NEW_NETWORK = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 0x2, 0x4, 0x8, 0x4000, 0x40000
_SYS_MOUNT_SETATTR = 442  # the same on every architecture
_AT_FDCWD, _AT_RECURSIVE, _MOUNT_ATTR_RDONLY = -100, 0x8000, 0x1


def enter(scratch: str, scratch_bytes: int, owner: int) -> None:
    """Move this process into new namespaces; the process-id one holds the children it forks from now on.

    Everything mounted becomes read-only, then ``scratch`` an empty folder in memory of at most ``scratch_bytes`` that
    belongs to user ``owner``. Who is not root needs a user namespace for that, and has it made. Raises ``OSError``,
    perhaps half-way, where the machine does not allow it: the process is then to be given up.
    """
    user, group = os.geteuid(), os.getegid()
    new_user = 0 if user == 0 else _NEW_USER
    libc.call("unshare", _NEW_MOUNTS | _NEW_IPC | _NEW_PIDS | _NEW_NETWORK | new_user)
    if new_user:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")
    libc.call("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)
    read_only = ctypes.create_string_buffer(struct.pack("=QQQQ", _MOUNT_ATTR_RDONLY, 0, 0, 0), 32)
    libc.call("syscall", _SYS_MOUNT_SETATTR, _AT_FDCWD, b"/", _AT_RECURSIVE, read_only, 32)
    options = f"size={scratch_bytes},nr_inodes=1024,mode=700,uid={owner}".encode()
    libc.call("mount", b"tmpfs", os.fsencode(scratch), b"tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, options)
    os.chdir(scratch)  # else the current folder stays the one below the mount


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:  # noqa: PTH123 - pathlib takes long to import
        file.write(text)
