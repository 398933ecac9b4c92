"""Landlock: a process gives up TCP, signals to outside processes, and access to all files but those it lists.

Numbers and layouts are those of ``linux/landlock.h``. A kernel's ABI version says which of them it knows.
"""

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

from harness.tools.sandbox.jail import libc

_SYS_CREATE_RULESET, _SYS_ADD_RULE, _SYS_RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1

WRITE_FILE, READ_FILE, READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG, _MAKE_SYM = 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 12
_REFER, TRUNCATE = 1 << 13, 1 << 14

READ = READ_FILE | READ_DIR
"""Reading files and listing folders, but never executing: the code may start no program."""
READ_WRITE = READ | WRITE_FILE | TRUNCATE | _REFER | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_SYM

_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_FILE_RIGHTS_SINCE_5 = (1 << 16) - 1
_BIND_AND_CONNECT_TCP = 0b11
_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11
_FILE_ONLY_RIGHTS = READ_FILE | WRITE_FILE | TRUNCATE


def abi() -> int:
    """Return the kernel's ABI version, 0 if it has no Landlock."""
    try:
        return libc.call("syscall", _SYS_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)
    except OSError:
        return 0


def restrict(version: int, allowed: Iterable[tuple[int, int]]) -> None:
    """Deny this process everything that ABI ``version`` can deny, except the rights on the files and folders listed.

    ``allowed`` holds pairs of an open descriptor (``O_PATH`` is enough) and the rights on it and everything beneath.
    Requires ``no_new_privileges``; cannot be undone.
    """
    file_rights = _FILE_RIGHTS.get(version, _FILE_RIGHTS_SINCE_5)
    attributes = struct.pack("=Q", file_rights)
    if version >= 4:
        attributes += struct.pack("=Q", _BIND_AND_CONNECT_TCP)
    if version >= 6:
        attributes += struct.pack("=Q", _ABSTRACT_SOCKETS_AND_SIGNALS)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    ruleset = libc.call("syscall", _SYS_CREATE_RULESET, buffer, len(attributes), 0)
    try:
        for descriptor, rights in allowed:
            known = rights & file_rights
            if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
                known &= _FILE_ONLY_RIGHTS  # the kernel refuses rights on a file that make sense only for folders
            rule = ctypes.create_string_buffer(struct.pack("=Qi", known, descriptor), 12)
            libc.call("syscall", _SYS_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
        libc.call("syscall", _SYS_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
