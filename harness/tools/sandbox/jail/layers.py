"""The layers of confinement, by the names under which they are recorded, and the set that suffices.

================= ====================================================================================================
namespaces No network, no other process, no shared memory of others, a host name of its own. minimal-root No files but
the standard library, its shared libraries, three devices and an empty folder in memory. uid A user of its own for each
run (when started by root). rlimits Memory, processor time, size and number of open files, threads. landlock-files
Reading only the standard library and its shared libraries; writing only the folder in memory. landlock-tcp No TCP.
landlock-signals No signals to processes outside, no abstract sockets. seccomp Only the system calls that one Python
process needs. =================
====================================================================================================

Every machine also has a session of its own, a clean environment, no new privileges and limits on time and output. These
are not listed.
"""

from collections.abc import Collection
from typing import Literal

Layer = Literal[
    "namespaces", "minimal-root", "uid", "rlimits", "landlock-files", "landlock-tcp", "landlock-signals", "seccomp"
]

NEEDED: tuple[Layer, ...] = ("namespaces", "minimal-root", "rlimits", "seccomp")
"""The layers that every machine must have; the others are a second line of defence."""


class UnsafeSandboxError(Exception):
    """This machine cannot confine model-written code; the message says what is missing."""


def is_safe(layers: Collection[str]) -> bool:
    """Return whether ``layers`` include all needed ones, so that every machine called safe confines a run alike."""
    return set(NEEDED) <= set(layers)
