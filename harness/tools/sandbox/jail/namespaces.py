"""Namespaces: they give a process no network, no other processes, and mounts that it can change for itself."""

import os

from harness.tools.sandbox.jail import libc

_MOUNTS, _HOST_NAME, _IPC, _USER, _PIDS, _NETWORK = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_NAME = b"sandbox"


def enter() -> None:
    """Move this process into new namespaces; the process-id namespace holds the children it forks from now on.

    A caller without the right to create them also gets a user namespace. Raise ``OSError``, perhaps half-way, where the
    machine does not allow it; the process must then be given up.
    """
    user, group = os.geteuid(), os.getegid()
    wanted = _MOUNTS | _HOST_NAME | _IPC | _PIDS | _NETWORK
    try:
        libc.call("unshare", wanted)
    except PermissionError:
        libc.call("unshare", wanted | _USER)
        _write("/proc/self/setgroups", b"deny")
        _write("/proc/self/uid_map", b"%d %d 1" % (user, user))
        _write("/proc/self/gid_map", b"%d %d 1" % (group, group))
    libc.call("sethostname", _NAME, len(_NAME))  # the same code gives the same result on every machine


def _write(path: str, text: bytes) -> None:
    with open(path, "wb", buffering=0) as file:  # noqa: PTH123 - pathlib takes long to import
        file.write(text)
