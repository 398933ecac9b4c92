"""The layers of confinement, by the names under which they are recorded, and which of them suffice.

=================  ====================================================================================================
bubblewrap         Only the Python installation, the system's libraries and an empty folder in memory exist; no network,
                   no other processes.
namespaces         The same from our own hand, except that all files stay visible, read-only.
uid                A user of its own for each run (when started by root).
rlimits            Memory, processor time, size and number of open files, threads.
landlock-files     Reading only the Python installation and the system's libraries; writing only the folder in memory.
landlock-tcp       No TCP.
landlock-signals   No signals to processes outside, no abstract sockets.
seccomp            No sockets, no second process, no program, nothing done to other processes.
=================  ====================================================================================================

A session of its own, a clean environment, no new privileges and the limits on time and output are there on every
machine, and are not listed.
"""

from collections.abc import Collection
from typing import Literal, get_args

Layer = Literal[
    "bubblewrap", "namespaces", "uid", "rlimits", "landlock-files", "landlock-tcp", "landlock-signals", "seccomp"
]
LAYERS: tuple[Layer, ...] = get_args(Layer)


class UnsafeSandboxError(Exception):
    """This machine cannot confine code written by a model; the message says what is missing."""


def is_safe(layers: Collection[str]) -> bool:
    """Whether ``layers`` keep code away from other files, and from the network and other processes.

    Files: ``bubblewrap`` or ``landlock-files``. Network and processes: ``bubblewrap``, ``namespaces`` or ``seccomp``.
    The others are a second line.
    """
    files = {"bubblewrap", "landlock-files"}
    network_and_processes = {"bubblewrap", "namespaces", "seccomp"}
    return bool(files & set(layers)) and bool(network_and_processes & set(layers))
