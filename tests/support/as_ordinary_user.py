"""Run a command as an ordinary user, from root. The user can read this Python and this repository wherever they are.

Usage: ``python as_ordinary_user.py COMMAND...``. In the command, PYTHON and REPOSITORY stand for the paths at which the
user finds them. All changes stay in a separate mount namespace.
"""

import os
import sys
from pathlib import Path

from harness.tools.sandbox.jail import libc

UID = 65534
_PLACE = "/mnt"
_NEW_MOUNTS, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x20000, 0x1000, 0x4000, 0x40000


def main() -> None:
    libc.call("unshare", _NEW_MOUNTS)
    libc.call("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)
    libc.call("mount", b"tmpfs", _PLACE.encode(), b"tmpfs", 0, b"mode=755")
    seen = {"PYTHON": sys.base_prefix, "REPOSITORY": str(Path(__file__).parents[2])}
    for name, source in seen.items():
        Path(_PLACE, name).mkdir()
        libc.call("mount", source.encode(), f"{_PLACE}/{name}".encode(), None, _MS_BIND | _MS_REC, None)
    os.setgroups([])
    os.setresgid(UID, UID, UID)
    os.setresuid(UID, UID, UID)
    command = sys.argv[1:]
    for name in seen:
        command = [argument.replace(name, f"{_PLACE}/{name}") for argument in command]
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
